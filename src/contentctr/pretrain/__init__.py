"""Pre-training of what ContentCTR takes as given: streamers' vectors and the encoders."""
