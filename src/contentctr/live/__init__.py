"""Scores while the room runs: what ranks live rooms."""
