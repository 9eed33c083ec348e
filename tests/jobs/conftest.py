"""A model, a list and images for the tests of jobs."""

from __future__ import annotations

import functools
import io

import numpy as np
import pytest
import torch
from PIL import Image

from handler.predictor import Predictor
from jobs.run.driver import score_list
from jobs.scoring import sources
from tests.shipped import ARCHIVE


class CountingPredictor:
    """The real predictor, counting what it is asked for.

    Args:
        predictor: the real one.
        answers: what it said of batches that it was asked for before, in whatever test.
    """

    def __init__(self, predictor, answers):
        self._answers = answers
        self.model = predictor.model
        self.wheel = predictor.wheel
        self.limits = predictor.limits
        self.batch_size = predictor.batch_size
        self.scored = 0
        self.loads = 0
        self.decode = predictor.decode
        self.predict = predictor.predict
        self._predictor = predictor

    def predict_decoded(self, images, **wanted):
        self.scored += len(images)
        # Of a tensor, shape and bytes; a refusal is its own key.
        batch = tuple(
            (tuple(image.shape), image.numpy().tobytes()) if torch.is_tensor(image) else image
            for image in images
        )
        asked = (batch, *sorted(wanted.items()))
        if asked not in self._answers:
            self._answers[asked] = self._predictor.predict_decoded(images, **wanted)
        return self._answers[asked]

    def load(self, path, *, threads):
        """Stands in for `Predictor.load`."""
        assert path == ARCHIVE
        assert threads >= 1
        self.loads += 1
        return self


@pytest.fixture(scope="session", autouse=True)
def verified_once():
    """Every start of a run verifies its archive; the 90 MB of the shipped one need it once."""
    read_card = sources.read_card

    @functools.cache
    def read_shipped(size, changed):
        return read_card(ARCHIVE)

    def read(path):
        if path != ARCHIVE:
            return read_card(path)
        about = ARCHIVE.stat()
        return read_shipped(about.st_size, about.st_mtime_ns)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sources, "read_card", read)
        yield


@pytest.fixture(scope="session")
def shipped_predictor():
    return Predictor.load(ARCHIVE)


@pytest.fixture(scope="session")
def known_answers():
    return {}


@pytest.fixture
def predictor(shipped_predictor, known_answers):
    return CountingPredictor(shipped_predictor, known_answers)


@pytest.fixture(scope="session")
def archive():
    return ARCHIVE


@pytest.fixture(scope="session")
def jpeg():
    """Different small photos: `jpeg(3)`."""

    def make(seed):
        noise = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
        photo = Image.fromarray(noise).resize((96, 72), Image.Resampling.BICUBIC)
        buffer = io.BytesIO()
        photo.save(buffer, "JPEG", quality=85)
        return buffer.getvalue()

    return make


@pytest.fixture
def score(predictor):
    """Runs a job in this process, with the shipped model."""

    def run(job, **options):
        return score_list(job, load=predictor.load, **options)

    return run
