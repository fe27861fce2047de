"""Serve a detector over HTTP, and use such a server from Python."""
