"""Training: the one loop, its run folder, and what a kind of data tells it."""
