"""Parametric objects, one module per kind of thing, from the primitives in `parts.py`."""
