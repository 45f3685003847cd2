"""From a prepared folder to Batches: windows of segments, and users' samples of videos."""
