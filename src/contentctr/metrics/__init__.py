"""Metrics of a curve: agreement of ranks, calibration, average precision."""
