"""Writes the reference pages that are generated from the code: `python -m docs.generate`."""
