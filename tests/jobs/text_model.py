"""A model whose images are texts, for tests of what is scored and what is copied."""

from dataclasses import replace

from handler.values.emotions import MIKELS
from handler.values.limits import ImageLimits
from handler.values.prediction import AttendedObject, ModelIdentity, Prediction, Refusal
from handler.values.things import DetectedThing

THINGS = (DetectedThing("person", 0.9, (1.0, 2.0, 3.0, 4.0), 0.5),)


class TextModel:
    """Images are texts; the answer follows from the text, and ``bad`` ones are refused."""

    model = ModelIdentity("stub", "1.0", "d" * 64)
    wheel = MIKELS
    batch_size = 4
    limits = ImageLimits()

    def __init__(self):
        self.scored = []  # every text, as often as it was scored

    def load(self, path, *, threads):
        return self

    def decode(self, data):
        return Refusal(422, "damaged") if data.startswith(b"bad") else memoryview(data)

    def predict_decoded(self, images, *, detect=False):
        answers = [image if isinstance(image, Refusal) else self._answer(image) for image in images]
        return [
            replace(one, detected=THINGS) if detect and isinstance(one, Prediction) else one
            for one in answers
        ]

    def _answer(self, image):
        text = bytes(image).decode()
        self.scored.append(text)
        number = int(text.split()[-1])
        emotion = MIKELS.labels[number % len(MIKELS)]
        return Prediction(
            emotion=emotion,
            probabilities={label: float(label == emotion) for label in MIKELS.labels},
            p_positive=number % 7 / 7,
            polarity="positive",
            face_count=0,
            face=None,
            objects=(AttendedObject("dog", 0.5, (1.0, 2.0, 3.0, 4.0), 0.75),),
            activation=None,
            width=number,
            height=1,
        )
