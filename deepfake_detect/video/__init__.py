"""From a video to a verdict over time."""
