"""Reports for people: a verdict with its reasons and its limits, as a page that can be handed on."""
