"""A trained model for others: as ONNX, and as a folder of the Hugging Face hub."""
