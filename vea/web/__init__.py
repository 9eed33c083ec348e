"""The gateway: a page to try a model, and predictions for those who must not see the keys."""
