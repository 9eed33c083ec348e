"""The command line: the one place that knows handler, train and jobs."""
