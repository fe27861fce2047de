"""Architectures, built by name."""
