"""Highlights without training: a plain rule over chat, sound, pictures and speech of a room."""
