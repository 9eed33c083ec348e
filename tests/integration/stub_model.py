"""A model for tests of what happens around models: images are small texts.

``7`` is an image; ``poison 7`` is one that ends the process which looks at it, as a decoder that
breaks does; ``slow 7`` takes a tenth of a second, ``stuck 7`` an hour.
"""

import os
import sys
import time

import numpy as np

from handler.values.emotions import MIKELS
from handler.values.limits import ImageLimits
from handler.values.prediction import ModelIdentity, Prediction


class StubModel:
    model = ModelIdentity("stub", "1.0", "d" * 64)
    wheel = MIKELS
    batch_size = 2
    limits = ImageLimits()

    def decode(self, data):
        return np.frombuffer(data, np.uint8)

    def predict_decoded(self, images):
        return [self._answer(image.tobytes().decode().split()) for image in images]

    def _answer(self, words):
        if "poison" in words:
            sys.stderr.write("Fatal: the decoder broke\n")
            sys.stderr.flush()
            os._exit(139)
        if "slow" in words:
            time.sleep(0.1)
        if "stuck" in words:
            time.sleep(3600)
        number = int(words[-1])
        emotion = MIKELS.labels[number % len(MIKELS.labels)]
        return Prediction(
            emotion=emotion,
            probabilities={label: float(label == emotion) for label in MIKELS.labels},
            p_positive=0.5,
            polarity="positive",
            face_count=0,
            face=None,
            objects=(),
            activation=None,
            width=number,
            height=1,
        )


def load(path, *, threads):
    """Stands in for `Predictor.load`."""
    return StubModel()


def load_in_vain(path, *, threads):
    """Ends the process before it is ready."""
    sys.stderr.write("loading...\nthere is no such instruction on this processor\n")
    sys.stderr.flush()
    os._exit(132)


def refuse_to_load(path, *, threads):
    """Raises what nobody foresaw."""
    raise RuntimeError("out of\nmemory")
