"""The TorchServe handler: parsing requests, building responses, reporting metrics."""
