"""Transcripts and subtitles in the forms that transcribers and downloaders write."""
