"""Bundles of weights: card, checksum, packaged, in a folder or on the Hub."""
