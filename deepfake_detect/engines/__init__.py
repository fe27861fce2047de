"""What runs a network: torch, its packed form, OpenVINO or onnxruntime."""
