"""Pre-trained weights: published files are fetched, imported, and fill the parts of a model.

``sources`` lists what is published, ``fetching`` gets it, ``reading`` opens foreign files safely,
``importing`` recognises them and converts them, ``home`` keeps the results, ``initial`` fills the
parts of a model with them, and ``packages`` knows what comes with installed packages.
"""

from train.weights.home import WeightsError, WeightsMissing
from train.weights.initial import (
    initial_backbone,
    initial_expression,
    initial_objects,
    object_settings,
)
from train.weights.packages import cnn_face_detector_file, landmark_file

__all__ = [
    "WeightsError",
    "WeightsMissing",
    "cnn_face_detector_file",
    "initial_backbone",
    "initial_expression",
    "initial_objects",
    "landmark_file",
    "object_settings",
]
