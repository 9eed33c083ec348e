"""What a finished run came to, compared with the runs before it."""
