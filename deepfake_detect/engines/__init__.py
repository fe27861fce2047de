"""What runs a network: torch, its packed form, or OpenVINO."""
