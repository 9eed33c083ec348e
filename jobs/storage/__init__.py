"""S3 and local folders: whole objects, retries, and limits of concurrency."""
