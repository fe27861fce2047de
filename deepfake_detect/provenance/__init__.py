"""Origin of a picture file, as the file states it: metadata, traces of generators, C2PA manifests, JPEG structure."""
