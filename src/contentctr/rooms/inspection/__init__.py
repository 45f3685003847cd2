"""What the software understands of a room or a file, before anything is trained."""
