"""From a data set to a detector."""
