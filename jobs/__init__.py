"""Image lists -> predictions -> parquet."""
