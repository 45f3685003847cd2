"""Raw inputs: one reader a source, one common output, `Room`."""
