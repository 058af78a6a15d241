"""Mining text-image-point triplets from unlabelled frames (CLIP2): vocabulary, detectors, lifting, collection."""
