"""Training: the one loop, its run folder, what is trained, and on which data."""
