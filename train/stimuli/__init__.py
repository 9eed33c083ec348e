"""The cache of selected stimuli, so that each photo is looked at by the frozen networks once."""
