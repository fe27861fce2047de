"""Where a picture file says it comes from: metadata, traces of generators, C2PA manifests, JPEG structure."""
