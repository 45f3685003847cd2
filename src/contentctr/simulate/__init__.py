"""Simulated live rooms with a known mechanism (docs/simulator.md)."""
