"""Data on their way to a model: arrays, tables and streams, and batches of them."""
