"""Streets seen by a LiDAR and six cameras, written in nuScenes' layout."""
