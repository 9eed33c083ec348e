"""Cross-validation for small data sets, with a linear probe or with whole networks."""
