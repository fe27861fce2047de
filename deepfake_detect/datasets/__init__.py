"""Data sets of pictures: reading, labels, splits and face crops."""
