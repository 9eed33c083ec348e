"""The compiled form of an archive: its backbones as ONNX graphs for CPUs."""
