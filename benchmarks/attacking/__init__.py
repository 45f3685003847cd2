"""Attacks, a file for each part that is attacked; see benchmarks/attacks.py."""
