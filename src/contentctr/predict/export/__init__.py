"""Highlights for editors: timelines, chapters and tables, exact to the frame."""
