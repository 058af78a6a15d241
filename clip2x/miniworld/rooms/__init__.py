"""Furnished rooms seen by an RGB-D camera, written in SUN RGB-D's layout."""
