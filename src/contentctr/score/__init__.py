"""A trained model and what it says: checkpoints, scores, highlights of a curve."""
