"""Serving an archive with a real TorchServe: start it, wait until it answers, ask it, stop it."""
