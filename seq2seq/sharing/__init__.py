"""Sharing a model: the report on a run, the model card, the upload to the hub, and the export to ONNX."""
