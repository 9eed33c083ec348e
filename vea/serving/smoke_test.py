"""Smoke test of a version: real requests before it becomes the default.

A version becomes the default only after it has answered for every photo that is shipped with the
program: with probabilities, with the digest of the archive that was verified, and with a refusal
for the photo that is broken.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import vea
from handler.values.limits import SUFFIXES
from vea.serving.errors import ServingError
from vea.serving.management import Management

_BROKEN = "broken.jpg"
_TRIES = 3  # a worker may die without the archive being to blame
_ROUNDING = 1e-3
_REFUSED = range(400, 500)

OnPhoto = Callable[[int, int], None]


def smoke_test(
    management: Management,
    version: str,
    digest: str,
    *,
    on_photo: OnPhoto = lambda done, total: None,
) -> int:
    """Request a prediction for every bundled photo from a registered version.

    Args:
        management: Management API of the model.
        version: Version under test.
        digest: Digest of the archive that must answer.
        on_photo: Called with (photos done, photos in total).

    Returns:
        Number of photos.

    Raises:
        ServingError: An answer is wrong; the message says which and why.
    """
    photos = bundled_photos()
    for done, photo in enumerate(photos):
        on_photo(done, len(photos))
        status, answer = _ask(management, version, photo.read_bytes())
        wrong = (
            _wrong_refusal(status, answer)
            if photo.name == _BROKEN
            else _wrong_answer(status, answer, version, digest)
        )
        if wrong:
            raise ServingError(f"version {version} answered wrongly for {photo.name}: {wrong}")
    on_photo(len(photos), len(photos))
    return len(photos)


def bundled_photos() -> list[Path]:
    """The photos that are shipped with the program; one of them is broken."""
    folder = Path(vea.__file__).parent / "photos"
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def _ask(management: Management, version: str, image: bytes) -> tuple[int, Any]:
    for _ in range(_TRIES):
        try:
            status, answer = management.predict(version, image)
        except OSError as error:
            status, answer = 0, {"message": f"no answer: {error}"}
        if 0 < status < 500:
            break
        management.wait_until_ready(version)
    return status, answer


def _wrong_refusal(status: int, answer: Any) -> str | None:
    if status not in _REFUSED:
        return f"status {status} for a file that is no image; expected a refusal"
    try:
        return None if answer["error"]["reason"] else "a refusal without a reason"
    except (KeyError, TypeError):
        return f"a refusal without a reason: {str(answer)[:200]}"


def _wrong_answer(status: int, answer: Any, version: str, digest: str) -> str | None:
    if status != 200:
        return f"status {status}: {str(answer)[:200]}"
    wrong = None
    try:
        probabilities, model = answer["probabilities"], answer["model"]
        total = math.fsum(probabilities.values())
        likeliest = max(probabilities, key=probabilities.__getitem__)
        if not all(0.0 <= p <= 1.0 + _ROUNDING for p in probabilities.values()):
            wrong = "a probability outside of 0 to 1"
        elif abs(total - 1.0) > _ROUNDING:
            wrong = f"the probabilities sum to {total:.4f}"
        elif answer["emotion"] != likeliest:
            wrong = f"the emotion is {answer['emotion']}, the likeliest is {likeliest}"
        elif (model["version"], model["digest"]) != (version, digest):
            wrong = f"version {model['version']} with the digest {model['digest']} answered"
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        wrong = f"the answer is not of the known form ({error!r})"
    return wrong
