"""nuScenes without its development kit: tables, sweeps, frames, objects."""
