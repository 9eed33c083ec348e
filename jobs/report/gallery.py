"""The images that a report shows: fetched again, made small, and put into the page itself.

An image that can no longer be fetched, or has changed since it was scored, gets a remark instead of
failing the report. Drawing needs torch, which is imported when the first picture is drawn.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from handler.values.errors import VeaError
from handler.values.limits import ImageLimits
from handler.values.prediction import Prediction
from jobs.fetching.fetcher import Fetcher
from jobs.report.finished_run import Example, FinishedRun, ReportError
from jobs.report.page import Shown
from jobs.storage.errors import ObjectUnavailable
from jobs.storage.stores import Stores
from jobs.values.inside import is_inside
from jobs.values.locations import resolve

if TYPE_CHECKING:
    import torch
    from PIL import Image

_SIDE = 320  # longer side of a picture on the page, in pixels
_QUALITY = 80

Explain = Callable[[bytes], Prediction | None]
"""Function that gives the prediction for an encoded image, with reasons; None if it is refused."""


def explainer(archive: Path, run: FinishedRun) -> Explain:
    """Load the model that scored a run, to explain its predictions.

    Raises:
        ReportError: The archive holds another model.
    """
    from handler.predictor import Predictor

    predictor = Predictor.load(archive)
    digest = run.manifest["model"]["digest"]
    if predictor.model.digest != digest:
        raise ReportError(
            f"{archive} is not the model that scored {run.location} (its digest is "
            f"{predictor.model.digest[:12]}, not {digest[:12]}): give that one to --model"
        )

    def explain(encoded: bytes) -> Prediction | None:
        answer = predictor.predict([encoded], explain=True)[0]
        return answer if isinstance(answer, Prediction) else None

    return explain


class Gallery:
    """Fetches and draws the examples of a run.

    Args:
        run: Run that the images are of.
        stores: Clients of the object stores.
        explain: Whether the reasons are drawn, too.
    """

    def __init__(self, run: FinishedRun, stores: Stores, *, explain: Explain | None = None) -> None:
        settings = run.manifest.get("settings", {})
        self._folder = settings.get("list_folder") or ""
        self._limits = ImageLimits()
        self._fetcher = Fetcher(
            stores, max_bytes=self._limits.max_bytes, hosts=tuple(settings.get("hosts", ()))
        )
        self._explain = explain
        self._given_up = ""

    def show(self, examples: Sequence[Example]) -> list[Shown]:
        """Pictures of examples, in their order."""
        return [self._show(example) for example in examples]

    def _show(self, example: Example) -> Shown:
        from handler.images import ImageRefused, decode

        # A server that is out of reach for one image is so for all, after long waits for each.
        if self._given_up:
            return Shown(example, remark=self._given_up)
        try:
            fetched = self._fetcher.fetch(resolve(example.image, self._folder))
            image = decode(fetched.data, self._limits)
        except (ObjectUnavailable, ImageRefused) as refused:
            remark = f"no picture: {refused.reason}"
            kind = refused.kind if isinstance(refused, ObjectUnavailable) else None
            if kind == "missing" and is_inside(example.image):
                remark = "no picture: it is inside a file, which a report does not open"
            if kind == "unreachable":
                self._given_up = remark
            return Shown(example, remark=remark)
        except VeaError as error:
            self._given_up = f"no picture: {error}"
            return Shown(example, remark=self._given_up)
        changed = example.etag != fetched.etag
        remark = "this image has changed since it was scored" if changed else ""
        return Shown(example, tuple(self._pictures(fetched.data, image)), remark)

    def _pictures(self, encoded: bytes, image: torch.Tensor) -> list[tuple[str, str]]:
        from handler.drawing.canvas import photo_within
        from handler.drawing.overlays import draw_activation, draw_stimuli

        prediction = self._explain(encoded) if self._explain else None
        size = (_SIDE, _SIDE)
        if prediction is None:
            return [("the photo", _data_url(photo_within(image, size)))]
        drawn = [
            (
                "its objects, the deeper in colour the more they were attended to, and its face",
                _data_url(draw_stimuli(image, prediction, within=size, text=12)),
            )
        ]
        if prediction.activation is not None:
            seen = draw_activation(image, prediction, within=size)
            drawn.append((f"in red what spoke for {prediction.emotion}", _data_url(seen)))
        return drawn


def _data_url(picture: Image.Image) -> str:
    encoded = io.BytesIO()
    picture.convert("RGB").save(encoded, "JPEG", quality=_QUALITY)
    return "data:image/jpeg;base64," + base64.b64encode(encoded.getvalue()).decode()
