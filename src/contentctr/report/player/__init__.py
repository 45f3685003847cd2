"""The page of one recording: a player, its curve, its highlights, its chat and speech."""
