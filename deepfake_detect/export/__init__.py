"""Detectors for other programs: ONNX files that run without this package."""
