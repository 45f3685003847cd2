"""The prepared folder on disk: tables, stored features, and the manifest that vouches for them."""
