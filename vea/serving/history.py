"""Which version was the default when: a server's memory, in its state folder.

It outlives the server. A rollback finds in it what was served before, and a new start what to go on
with. One JSON object a line is appended and never changed, so that a kill can cost no more than the
line that was being written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from vea.serving.errors import ServingError

Action = Literal["start", "promote", "rollback", "remove"]
FILE = "history.jsonl"


@dataclass(frozen=True)
class Event:
    """Something that happened to a version.

    Attributes:
        at: Time of the event, UTC, ISO 8601.
        action: ``start``, ``promote`` and ``rollback`` made it the default, ``remove`` took it
            away.
        model: Name of the model.
        version: Version of the model.
        digest: Digest of the archive.
        file: Name of the archive in the server's model store.
        source: Path that the archive was copied from.
    """

    at: str
    action: Action
    model: str
    version: str
    digest: str
    file: str
    source: str

    @property
    def title(self) -> str:
        """Name, version and the beginning of the digest, for people."""
        return f"{self.model} {self.version} ({self.digest[:12]})"


class History:
    """The events of the server in a state folder, oldest first."""

    def __init__(self, state: Path) -> None:
        self.path = state.expanduser().resolve() / FILE

    def events(self) -> list[Event]:
        """All of them; none if there is no history yet.

        Raises:
            ServingError: The history cannot be read.
        """
        try:
            lines = self.path.read_text().splitlines()
        except (FileNotFoundError, NotADirectoryError):
            return []
        except (OSError, UnicodeDecodeError) as error:
            raise ServingError(f"cannot read the server's history {self.path}: {error}") from None
        found = []
        for line in lines:
            try:
                found.append(Event(**json.loads(line)))
            except (ValueError, TypeError):
                continue  # cut short by a kill
        return found

    def record(
        self, action: Action, *, model: str, version: str, digest: str, file: str, source: Path
    ) -> Event:
        """Append what has just happened."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        event = Event(now, action, model, version, digest, file, str(source))
        line = json.dumps(asdict(event)) + "\n"
        if self.path.exists() and not self.path.read_bytes().endswith(b"\n"):
            line = "\n" + line  # what a kill cut short must not swallow this one
        with self.path.open("a") as opened:
            opened.write(line)
            opened.flush()
            os.fsync(opened.fileno())
        return event

    def current(self) -> Event | None:
        """What became the default last."""
        return next(iter(_defaults(self.events())), None)

    def promoted(self) -> Event | None:
        """What became the default last, if anybody has ever promoted something here.

        Without a promotion the folder only knows what happened to be started in it.
        """
        chosen = any(event.action in ("promote", "rollback") for event in self.events())
        return self.current() if chosen else None

    def previous(self) -> Event | None:
        """What was the default before the present one, unless it was removed since."""
        events = self.events()
        now = next(iter(_defaults(events)), None)
        if now is None:
            return None
        gone: set[tuple[str, str]] = set()
        for event in reversed(events):
            if event.action == "remove":
                gone.add((event.version, event.digest))
            elif (
                event.model == now.model
                and event.digest != now.digest
                and (event.version, event.digest) not in gone
            ):
                return event
        return None

    def files(self) -> set[str]:
        """Names in the models folder of what is needed to go on and to roll back."""
        wanted = (self.promoted(), self.previous())
        return {event.file for event in wanted if event is not None}


def _defaults(events: Iterable[Event]) -> list[Event]:
    """Those that made something the default, latest first."""
    return [event for event in reversed(list(events)) if event.action != "remove"]
