"""Feature extraction, the O of stimulus-organism-response (Sec. III-B of the paper)."""
