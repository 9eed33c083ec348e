"""Plain values of a job: its settings, chunks, tasks, names and locations."""
