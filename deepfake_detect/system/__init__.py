"""Processor, device and memory of the machine."""
