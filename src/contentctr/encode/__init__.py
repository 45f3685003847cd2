"""From pictures and texts to stored vectors."""
