"""Face finding, face crops and the parts of a face."""
