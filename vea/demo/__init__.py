"""`vea demo`: the whole path on a dozen photos."""
