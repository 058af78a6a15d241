"""Readers of file formats: strict, each error in one line with the place in the file."""
