"""Personalized video highlight detection: PHD's published annotations, and simulated ones."""
