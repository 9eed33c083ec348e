"""Pre-trained weights: published files are fetched, imported, and loaded into a model.

``sources`` lists the published files, ``fetching`` and ``download`` fetch them, ``reading`` opens
foreign files safely, ``importing`` recognises and converts them, ``home`` stores the results,
``initial`` loads them into the parts of a model, ``trained`` those of a trained model, and
``packages`` finds the weights of installed packages.
"""

from train.weights.home import WeightsError, WeightsMissing
from train.weights.initial import (
    initial_backbone,
    initial_expression,
    initial_objects,
    object_settings,
)
from train.weights.packages import cnn_face_detector_file, face_detector, landmark_file
from train.weights.trained import initial_branches, is_trained, trained_digests

__all__ = [
    "WeightsError",
    "WeightsMissing",
    "cnn_face_detector_file",
    "face_detector",
    "initial_backbone",
    "initial_branches",
    "initial_expression",
    "initial_objects",
    "is_trained",
    "landmark_file",
    "object_settings",
    "trained_digests",
]
