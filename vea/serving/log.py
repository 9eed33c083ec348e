"""What a server's log says when a model does not load.

TorchServe restarts a worker that dies, again and again, while clients wait without a word; the
log is the only place that tells. This reads it.
"""

from __future__ import annotations

import re
from pathlib import Path

# Lines that every start prints and that mean nothing.
_NOISE = (
    "getCallerClass",
    "nvidia-smi",
    "xpu-smi",
    "non-default JVM parameters",
    "createdOn is not defined",
    "MODEL_LOG - s_name_part0",
    "MODEL_LOG - Listening on",
    "MODEL_LOG - Successfully loaded",
    "MODEL_LOG - [PID]",
    "MODEL_LOG - Torch worker started",
    "MODEL_LOG - Python runtime",
    "MODEL_LOG - Connection accepted",
    # Frames that say where an import was, not what was imported.
    "<frozen importlib",
)
_PREFIX = re.compile(r"^\d{4}-\d\d-\d\d\S* +[A-Z]+ +(\S+) - ")
_WORKER = "MODEL_LOG"
_TRACEBACK = "Traceback (most recent call last)"
# TorchServe says this when a worker has died again although it was restarted.
_GIVEN_UP = "Auto recovery failed again"
# An import error in the archive's code makes TorchServe look for a handler of its own, and this is
# the error it then ends with; the one before it is the true one.
_MASK = "No module named 'ts.torch_handler."


class ServerLog:
    """A server's log file, which may grow or not exist yet."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def lines(self, *, of_workers: bool = False) -> list[str]:
        """All lines or those of workers, without date, level and logger, without noise."""
        try:
            text = self.path.read_text(errors="replace")
        except FileNotFoundError:
            return []
        kept = []
        for line in text.splitlines():
            prefix = _PREFIX.match(line)
            if of_workers and (prefix is None or prefix.group(1) != _WORKER):
                continue
            content = line[prefix.end() if prefix else 0 :].rstrip()
            if content.strip(" ^~") and not any(noise in line for noise in _NOISE):
                kept.append(content)
        return kept

    def is_crash_loop(self) -> bool:
        """Whether a worker has died, was restarted and has died again.

        One death before the first answer may be an accident; a second one is not.
        """
        return any(_GIVEN_UP in line for line in self.lines())

    def reason(self, count: int = 5) -> str:
        """The lines, at most ``count``, that best say what went wrong; indented, for people."""
        # The front end's lines can fall between those of a worker's traceback.
        lines = self.lines(of_workers=True)
        errors = [i for i in _error_lines(lines) if _MASK not in lines[i]]
        lines = lines[: errors[-1] + 1] if errors else self.lines()
        return "\n".join(f"  {line}" for line in lines[-count:]) or "  (the log is empty)"


def _error_lines(lines: list[str]) -> list[int]:
    """Where tracebacks end: at their first line that is not indented."""
    found = []
    inside = False
    for i, line in enumerate(lines):
        if _TRACEBACK in line:
            inside = True
        elif inside and not line[0].isspace():
            found.append(i)
            inside = False
    return found
