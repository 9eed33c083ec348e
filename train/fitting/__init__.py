"""Training a network on the cached stimuli of a data set."""
