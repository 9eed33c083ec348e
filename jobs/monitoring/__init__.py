"""Progress, failure rate, metrics and the summary of a job."""
