"""What a photo costs: `python -m tests.bench`, or `make bench`."""
