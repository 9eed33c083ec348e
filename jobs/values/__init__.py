"""Plain values of a job: what it is told, chunks, tasks, names and places."""
