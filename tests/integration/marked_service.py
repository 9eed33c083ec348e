"""The handler of a test archive: the project's own, which does harm where an image says so.

An image may end with a mark, which decoders do not see. TorchServe loads the class at the end of
this file; the marks are also what tests import.
"""

import tempfile
import time
from pathlib import Path

from handler.serving.service import VisualEmotionService

PAUSE = b"#vea-test pause"  # half a second
HANG = b"#vea-test hang"  # longer than any limit
HANG_ONCE = b"#vea-test once hang"  # likewise, but only the first time
RAISE = b"#vea-test raise"
LARGE = b"#vea-test large"  # an answer of 7 MB
# Of its server, small enough to hit. A worker that is new must be through with its first batch
# within the limit, on a busy machine too.
QUEUE, BATCH, LIMIT = 6, 4, 10


class MarkedService(VisualEmotionService):
    def handle(self, rows, context):
        bodies = [bytes(row.get("body") or b"") for row in rows]
        if any(body.endswith(PAUSE) for body in bodies):
            time.sleep(0.5)
        if any(body.endswith(HANG) for body in bodies):
            time.sleep(3600)
        once = Path(tempfile.gettempdir(), "has-hung")
        if any(body.endswith(HANG_ONCE) for body in bodies) and not once.exists():
            once.touch()
            time.sleep(3600)
        if any(body.endswith(RAISE) for body in bodies):
            raise RuntimeError("as the image wished")
        answers = super().handle(rows, context)
        return [
            b'"' + b"x" * 7_000_000 + b'"' if body.endswith(LARGE) else answer
            for body, answer in zip(bodies, answers, strict=True)
        ]
