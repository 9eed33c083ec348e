"""The cache of selected stimuli, so that the frozen networks run once on each photo."""
