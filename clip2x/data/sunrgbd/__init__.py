"""SUN RGB-D from its raw tree: calibration, depth, annotations, frames, objects."""
