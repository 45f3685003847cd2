"""Scores over HTTP: the application, its limits, its batches."""
