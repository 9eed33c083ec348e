"""The report on a finished run, compared with earlier runs."""
