"""Stimuli selection, the S of stimulus-organism-response (Sec. III-A of the paper)."""
