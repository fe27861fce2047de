"""Score data sets that are too large for one machine."""
