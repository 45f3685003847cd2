"""The models: each from a Config, a DataSpec and a Vocabulary, and from a Batch to an Output."""
