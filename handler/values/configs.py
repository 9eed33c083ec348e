"""Settings of networks and of stimuli selection: plain values, checked when made.

Reading or checking a configuration builds no network and imports neither torch nor dlib.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from handler.values import emotions
from handler.values.backbones import backbone_spec
from handler.values.checks import check_number

NO_FACES, LIGHT_FACES, LIGHTER_FACES = "none", "light", "lighter"
BLAZEFACE = (LIGHT_FACES, LIGHTER_FACES)
"""The face backends whose network is BlazeFace."""
LIGHT_THINGS = "light"
FACES_VARIABLE = "VEA_FACES"
"""Environment variable of a service; ``off`` has it look for no faces, whatever its model does."""
LAST_STAGE = 8
"""Channels of Expression-Net's last stage, as a multiple of its width."""
BACKENDS = ("hog", "cnn", *BLAZEFACE, NO_FACES)


@dataclass(frozen=True)
class SemanticConfig:
    """Settings of Semantic-Net.

    Attributes:
        hidden: Size of both LSTM states, and of v_s (the paper: d2 = 512).
        attention: M, size of the attention's inner layer.
        steps: T.
        attention_feed: ``"previous"`` feeds h_att(t-1) in Eq. 9, ``"current"`` h_att(t).
        dropout: Dropout rate of the object features, in training.
    """

    hidden: int = 512
    attention: int = 512
    steps: int = 3
    attention_feed: str = "previous"
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if self.attention_feed not in ("previous", "current"):
            raise ValueError(
                f"attention_feed is '{self.attention_feed}': expected 'previous' or 'current'"
            )
        for name in ("hidden", "attention", "steps"):
            check_number(f"semantic.{name}", getattr(self, name), least=1, whole=True)
        check_number("semantic.dropout", self.dropout, least=0, below=1)


@dataclass(frozen=True)
class NetworkConfig:
    """Which branches there are, and how large.

    Attributes:
        wheel: Name of the emotion wheel.
        global_backbone: Global-Net's backbone, or None for no Global-Net.
        object_features: F, what the object source yields.
        semantic: Semantic-Net's settings, or None for no Semantic-Net.
        expression_width: Expression-Net's width, or None for no Expression-Net.
        dropout: Dropout rate before the classifier, in training.
    """

    wheel: str = emotions.MIKELS.name
    global_backbone: str | None = "resnet50"
    object_features: int = 2048
    semantic: SemanticConfig | None = field(default_factory=SemanticConfig)
    expression_width: int | None = 64
    dropout: float = 0.0

    def __post_init__(self) -> None:
        if not (self.global_backbone or self.semantic or self.expression_width):
            raise ValueError("a network needs at least one of its three branches")
        emotions.wheel(self.wheel)  # names are checked here, before anything is built
        if self.global_backbone:
            backbone_spec(self.global_backbone)
        check_number("object_features", self.object_features, least=1, whole=True)
        if self.expression_width is not None:
            check_number("expression_width", self.expression_width, least=1, whole=True)
        check_number("dropout", self.dropout, least=0, below=1)

    @property
    def fused_size(self) -> int:
        """Number of values of the fused feature v_emo: d1 + d2 + d3."""
        backbone, semantic, width = self.global_backbone, self.semantic, self.expression_width
        return (
            (backbone_spec(backbone).feature_size if backbone else 0)
            + (semantic.hidden if semantic else 0)
            + (LAST_STAGE * width if width else 0)
        )

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """The configuration that `to_dict` wrote; what is left out has its default."""
        values = dict(values)
        if values.get("semantic") is not None:
            values["semantic"] = SemanticConfig(**values["semantic"])
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class FaceConfig:
    """Settings of the face search.

    Attributes:
        side: Length in pixels to which the shorter side of a photo is resized before dlib searches
            it (the paper searches 448x448 images); for ``"hog"`` and ``"cnn"`` only.
        upsample: Number of times that dlib doubles the image; each time finds faces half as large
            and costs four times as much; for ``"hog"`` and ``"cnn"`` only.
        threshold: Minimum score of a face. Scores of the backends are not comparable; that of
            ``"light"`` and ``"lighter"`` is a logit: 0 is a probability of one half.
        backend: ``"hog"`` or ``"cnn"`` of dlib, ``"light"`` for BlazeFace, ``"lighter"`` for
            BlazeFace that looks at fewer pixels, or ``"none"``, which searches nothing: what the
            model says has nothing about faces.
    """

    side: int = 448
    upsample: int = 0
    threshold: float = 0.0
    backend: str = "hog"

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            known = ", ".join(BACKENDS)
            raise ValueError(f"faces.backend is '{self.backend}': expected one of {known}")
        for name, least in (("side", 1), ("upsample", 0)):
            check_number(f"faces.{name}", getattr(self, name), least=least, whole=True)
        if not isinstance(self.threshold, int | float) or isinstance(self.threshold, bool):
            raise ValueError(f"faces.threshold is {self.threshold}: expected a number")


@dataclass(frozen=True)
class SelectorConfig:
    """Settings of the selection.

    Attributes:
        size: Side in pixels of the square colour image.
        fit: ``"squash"`` ignores the aspect ratio, so that nothing of the picture is lost;
            ``"crop"`` brings the shorter side to ``resize`` and cuts the centre, as the paper does.
        resize: Length in pixels of the shorter side before the crop; only for ``"crop"``.
        objects: Object source and its settings.
        faces: Face detector and its settings.
    """

    size: int = 224
    fit: str = "squash"
    resize: int = 240
    objects: dict[str, Any] = field(default_factory=lambda: {"source": "grid"})
    faces: FaceConfig = field(default_factory=FaceConfig)

    def __post_init__(self) -> None:
        if self.fit not in ("squash", "crop"):
            raise ValueError(f"fit is '{self.fit}': expected 'squash' or 'crop'")
        for name in ("size", "resize"):
            check_number(name, getattr(self, name), least=1, whole=True)
        if not isinstance(self.objects, dict):
            raise ValueError(
                f"objects is {self.objects}: expected settings, such as {{source: grid}}"
            )
        if "count" in self.objects:
            check_number("objects.count", self.objects["count"], least=1, whole=True)
        if "name_threshold" in self.objects:
            check_number("objects.name_threshold", self.objects["name_threshold"], least=0)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> SelectorConfig:
        """The configuration that `asdict` wrote."""
        values = dict(values)
        faces = FaceConfig(**values.pop("faces", {}))
        return cls(faces=faces, **values)
