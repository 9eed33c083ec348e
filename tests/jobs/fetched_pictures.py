"""What the fetcher gets of the pictures that a list names inside files."""

from jobs.fetching.fetcher import Fetcher
from jobs.storage.errors import ObjectUnavailable
from jobs.storage.stores import Stores


def fetched(entries, max_bytes=20 * 1024 * 1024):
    """The bytes of each entry's picture, or kind and reason of its failure."""
    fetcher, found = Fetcher(Stores(), max_bytes=max_bytes), []
    for entry in entries:
        try:
            found.append(fetcher.fetch(entry.image, entry.inside).data)
        except ObjectUnavailable as refused:
            found.append((refused.kind, refused.reason))
    return found
