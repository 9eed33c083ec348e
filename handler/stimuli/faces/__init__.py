"""The face stimulus: the largest face of a photo, aligned to 48x48 grey (Sec. III-A)."""
