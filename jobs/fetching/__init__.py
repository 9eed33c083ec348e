"""Encoded images from S3, web servers and disk, fetched and decoded ahead of the model."""
