"""From a checkpoint and held-out data to predictions and metrics, for each kind of data."""
