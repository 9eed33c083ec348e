"""What a finished night came to, compared with the nights before it."""
