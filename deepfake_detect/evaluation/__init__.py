"""How good a detector is, and what its score means."""
