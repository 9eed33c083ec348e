"""The TorchServe handler: what a request may look like, how it is answered, what is measured."""
