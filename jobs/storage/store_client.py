"""What the clients of all object stores share: requests a job needs, and deletions in batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import ClassVar, TypeVar

from jobs.storage.errors import ObjectUnavailable, stopped
from jobs.values.locations import ObjectLocation

Result = TypeVar("Result")


class StoreClient(ABC):
    """A client of one kind of store, which knows how to send a request and how to delete objects.

    Attributes:
        deleted_at_once: Number of objects that the store removes with one request, at most.
        one_by_one: Kinds of failure (see `ObjectUnavailable`) after which the objects of a batch
            are removed one by one.
    """

    deleted_at_once: ClassVar[int]
    one_by_one: ClassVar[frozenset[str]]

    @abstractmethod
    def run(
        self, attempt: Callable[[], Result], location: ObjectLocation, *, paced: bool = False
    ) -> Result:
        """Send a request, with retries, and classify its errors.

        Args:
            attempt: Function that makes one whole request.
            location: Location that the request is about.
            paced: Whether the request is paced, as in `jobs.storage.retry.Retries.run`.

        Raises:
            ObjectUnavailable: This object cannot be fetched.
            StorageError: No object can be fetched.
        """

    @abstractmethod
    def _delete_batch(self, locations: Sequence[ObjectLocation]) -> None:
        """One attempt at removing objects of one bucket; for `run`."""

    @abstractmethod
    def _delete_one(self, location: ObjectLocation) -> None:
        """Remove one object, with retries; raises `StorageError`."""

    def delete(self, locations: Iterable[ObjectLocation]) -> None:
        """Remove objects; those that do not exist are ignored.

        Raises:
            StorageError: An object cannot be removed.
        """
        by_bucket = defaultdict[str, list[ObjectLocation]](list)
        for location in locations:
            by_bucket[location.bucket].append(location)
        for found in by_bucket.values():
            for start in range(0, len(found), self.deleted_at_once):
                some = found[start : start + self.deleted_at_once]
                try:
                    self.run(partial(self._delete_batch, some), some[0])
                except ObjectUnavailable as refused:
                    if refused.kind not in self.one_by_one:
                        raise stopped(refused, some[0], "delete") from refused
                    for one in some:
                        self._delete_one(one)

    def _run_or_stop(
        self, attempt: Callable[[], Result], location: ObjectLocation, verb: str
    ) -> Result:
        """Send a request without which the job cannot go on; ``verb`` says what it is to do."""
        try:
            return self.run(attempt, location)
        except ObjectUnavailable as refused:
            raise stopped(refused, location, verb) from refused
