"""Following a stream or a growing recording."""
