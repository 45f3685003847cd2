"""PHD as it is published: its annotations, its videos and their captions."""
