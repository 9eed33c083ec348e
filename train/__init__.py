"""Data sets -> weights -> evaluation -> archive."""
