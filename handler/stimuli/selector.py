"""`StimuliSelector`: images -> `Stimuli`, with frozen tools only (Sec. III-A, Fig. 4)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import nn

from handler.backbones import BackboneRuntime
from handler.resizing import crop_centre, resize, resize_shorter
from handler.stimuli.faces.source import build_face_source
from handler.stimuli.objects.grid import GridObjects
from handler.stimuli.objects.source import ObjectSource, build_object_source
from handler.stimuli.stimuli import Objects, Stimuli
from handler.values.backbones import FACES
from handler.values.configs import SelectorConfig
from handler.values.places import Box

_LONGEST_RATIO = 4


class StimuliSelector(nn.Module):
    """Selects the three stimuli. Its only weights are the frozen object source's.

    Args:
        config: Stimuli to select, with their settings.
        landmarks: Path of the face landmark file; only for the face backends of dlib.
        face_detector: Path of the face detector's file; not for the face backend ``"hog"``.
        face_threads: Number of images that are searched for faces in parallel.
        runtime: Runtime of the object source's backbone and of the face network, and of
            Global-Net's backbone where one pass does for both; torch by default.

    Raises:
        FaceDetectorMissing: The configured face detector needs a file that is missing.
    """

    def __init__(
        self,
        config: SelectorConfig,
        *,
        landmarks: Path | None,
        face_detector: Path | None = None,
        face_threads: int = 1,
        runtime: BackboneRuntime | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        # Faces first: a missing file is told at once, not after a detector has been built.
        self.faces = build_face_source(
            config.faces,
            landmarks=landmarks,
            detector=face_detector,
            threads=face_threads,
            compiled=None if runtime is None else runtime.trunk(FACES),
        )
        self.objects = build_object_source(config.objects, runtime)
        self.shared = None if runtime is None else runtime.shared()

    def select(self, images: Sequence[torch.Tensor]) -> Stimuli:
        """The stimuli of images (uint8, 3xHxW, any sizes); at least one image."""
        # Faces are searched in threads of their own while the object source works.
        search = self.faces.start(images)
        colour = torch.stack([fit_colour(image, self.config) for image in images])
        objects, feature_map = find_objects(self.objects, self.shared, images, colour)
        return Stimuli(colour, objects, search.collect(), feature_map)


def find_objects(
    source: ObjectSource,
    shared: nn.Module | None,
    images: Sequence[torch.Tensor],
    colour: torch.Tensor,
) -> tuple[Objects, torch.Tensor | None]:
    """The objects of B images, and what the same pass has seen for Global-Net.

    Args:
        source: Object source.
        shared: As `BackboneRuntime.shared`, for a grid source that sees the colour stimulus.
        images: Images as decoded, uint8, each 3xHxW.
        colour: Colour stimulus of the images, uint8, Bx3xSxS.

    Returns:
        The objects, and `Stimuli.feature_map`.
    """
    if shared is None:
        return source.select(images), None
    assert isinstance(source, GridObjects)
    feature_map, cells, logits = shared(colour)
    return source.places(cells, images, logits), feature_map


def fit_colour(image: torch.Tensor, config: SelectorConfig) -> torch.Tensor:
    """The colour stimulus of one image: uint8, 3xSxS."""
    side = config.size, config.size
    if config.fit == "squash":
        return resize(image, side)
    # Only the centre is kept: a thread of pixels is cut before it is enlarged, not after.
    longest = _LONGEST_RATIO * min(image.shape[-2:])
    if max(image.shape[-2:]) > longest:
        height, width = image.shape[-2:]
        image = crop_centre(image, (min(height, longest), min(width, longest)))
    return crop_centre(resize_shorter(image, max(config.resize, config.size)), side)


def colour_box(image: torch.Tensor, config: SelectorConfig) -> Box:
    """The part of an image (3xHxW) that `fit_colour` passes to Global-Net: xyxy, pixels."""
    height, width = image.shape[-2:]
    if config.fit == "squash":
        return (0.0, 0.0, float(width), float(height))
    side = min(height, width) * config.size / max(config.resize, config.size)
    left, top = (width - side) / 2, (height - side) / 2
    return (left, top, left + side, top + side)
