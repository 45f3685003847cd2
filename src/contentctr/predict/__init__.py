"""From a recording to its curve, its highlights and its clips."""
