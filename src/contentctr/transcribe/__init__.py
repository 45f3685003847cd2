"""Speech of rooms that have sound and no transcript, recognised segment by segment."""
