"""Pictures, charts and pages that results are shown with."""
