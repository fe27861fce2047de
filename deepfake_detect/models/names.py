"""Names of the architectures, for those who list them without loading torch."""

ARCHITECTURES = (
    *("cnn-simple", "cnn4", "cnn6", "cnn6-dropout", "efficientnet-b0", "efficientnet-b4"),
    *("meso4", "mesoinception4", "vgg16", "xception", "xception-dense"),
)
"""What `list_models` returns."""
