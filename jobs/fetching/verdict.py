"""Whether images cannot be read at all, or only those that a worker happens to have met.

A worker sees a few chunks of a list. Images in succession that it cannot read are a suspicion, no
more: perhaps all of them lie in a folder that is forbidden, or on a host that is gone. So the
suspicion is put to the list as a whole: images spread evenly over it, the controls, are asked for
once each. The verdict is then the same whichever worker asks, and however many there are.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Collection, Sequence

Accepts = Callable[[str, str | None], bool]
"""Told a control's location and the kind of its refusal (None if it could be read); whether this
refutes the suspicion."""


class Streak:
    """Counts images in succession that end in a bad way; safe to share between threads.

    Args:
        kinds: Kinds of `jobs.storage.errors.ObjectUnavailable` that are counted.
        limit: Number of images in succession that raises a suspicion.
        passing_over: Kinds that are ignored: they count neither for nor against.
        from_the_start: Whether an image that ends otherwise also ends the counting for good.
    """

    def __init__(
        self,
        kinds: Collection[str],
        limit: int,
        *,
        passing_over: Collection[str],
        from_the_start: bool = False,
    ) -> None:
        self._kinds = frozenset(kinds)
        self._limit = limit
        self._passing_over = frozenset(passing_over)
        self._from_the_start = from_the_start
        self._over = False
        self._count = 0
        self._lock = threading.Lock()

    def is_too_long(self, kind: str | None) -> bool:
        """Count one more image.

        Args:
            kind: Kind of the image's refusal; None if it could be fetched.
        """
        with self._lock:
            if self._over or kind in self._passing_over:
                return False
            if kind in self._kinds:
                self._count += 1
                return self._count >= self._limit
            self._end()
            return False

    def refute(self) -> None:
        """Begin again, or end the counting if it is one from the start."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        self._count = 0
        self._over = self._from_the_start


class Controls:
    """Images of the whole list that show whether any can be read.

    Args:
        locations: Locations of images that are spread evenly over the list.
        ask: Function that makes one attempt at an image: None if it could be read, or the kind of
            its refusal.
        is_closing: Function that tells whether the job is being stopped.
        patience: Seconds after which no further control is asked for.
    """

    def __init__(
        self,
        locations: Sequence[str],
        ask: Callable[[str], str | None],
        *,
        is_closing: Callable[[], bool],
        patience: float = 60.0,
    ) -> None:
        # In their own order the first would lie in the very stretch that raised the suspicion.
        self._locations = random.Random(0).sample(list(locations), len(locations))
        self._ask = ask
        self._is_closing = is_closing
        self._patience = patience
        self._hopeless = False
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Number of the controls."""
        return len(self._locations)

    def refute(self, accepts: Accepts) -> bool:
        """Whether any control refutes a suspicion; the first that does is asked first next time.

        One suspicion that none refutes is the end of the job, so no further one is examined.
        """
        with self._lock:
            end = time.monotonic() + self._patience
            for index, location in enumerate(self._locations):
                if self._hopeless or self._is_closing() or time.monotonic() > end:
                    break
                if accepts(location, self._ask(location)):
                    self._locations.insert(0, self._locations.pop(index))
                    return True
            self._hopeless = True
            return False
