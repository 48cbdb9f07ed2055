"""FeatureSpace: the columns of a table as numbers for a model."""
