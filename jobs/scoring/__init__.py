"""Rows from images: fetch, decode, predict, with an archive or through a running service."""
