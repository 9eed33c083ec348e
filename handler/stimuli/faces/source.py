"""The choice between the face sources.

A source searches a batch of images while the object source works on it: `FaceSource.start`, then
`FaceSearch.collect`. Where faces are off, nothing is searched, and no image has one.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from torch import nn

from handler.stimuli.faces.search import FaceDetectorMissing, FaceSource, NoFaces
from handler.values.configs import BLAZEFACE, NO_FACES, FaceConfig


def build_face_source(
    config: FaceConfig,
    *,
    landmarks: Path | None,
    detector: Path | None,
    threads: int,
    compiled: nn.Module | None = None,
) -> FaceSource:
    """The source that ``config`` names.

    Args:
        config: Settings of the search.
        landmarks: Path of the face landmark file, for dlib's backends.
        detector: Path of the face detector's file, for backends that have one.
        threads: Number of images that dlib searches in parallel.
        compiled: Compiled BlazeFace, for the backends that use it; by default torch computes it.

    Raises:
        FileNotFoundError: The landmark file does not exist.
        FaceDetectorMissing: The detector's file is missing.
    """
    # Imported on demand: without faces nothing of this is needed, and BlazeFace does without dlib.
    if config.backend == NO_FACES:
        return NoFaces()
    if config.backend in BLAZEFACE:
        from handler.stimuli.faces.light import SIDES, LightFaces, load_network  # noqa: PLC0415

        if detector is None:
            raise FaceDetectorMissing(
                f"face search '{config.backend}' needs the weights of its network"
            )
        return LightFaces(
            compiled or load_network(detector),
            threshold=config.threshold,
            sides=SIDES[config.backend],
        )
    from handler.stimuli.faces.dlib_faces import DlibFaces  # noqa: PLC0415

    if landmarks is None:
        raise FileNotFoundError(f"face search '{config.backend}' needs a face landmark file")
    return DlibFaces(landmarks=landmarks, detector=detector, threads=threads, **asdict(config))
