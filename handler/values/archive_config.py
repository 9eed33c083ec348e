"""Settings of an archive, which its ``config.json`` holds: plain values, checked when made."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Any

from handler.values.checks import check_number
from handler.values.configs import LIGHT_THINGS, NetworkConfig, SelectorConfig
from handler.values.errors import ArchiveError
from handler.values.runtimes import INT8, PRECISIONS

FORMAT = 1


@dataclass(frozen=True)
class ArchiveConfig:
    """What ``config.json`` says.

    Attributes:
        name: Name of the model in TorchServe and in the parquet rows.
        version: Version of the model.
        network: Settings of organism and response.
        selector: Settings of the stimuli.
        compiled: Precision of the compiled form of the backbones, ``"float32"`` or ``"int8"``; None
            without one.
        recheck_ratio: A float32 form decides instead of the 8-bit one where the most probable
            emotion is less than this many times as probable as the second; None without such a
            form.
        recheck_difference: Likewise, where their probabilities differ by less than this. Only
            archives from before vea-lite 3.0 have it.
        shared_graph: Whether the compiled form has Global-Net's backbone and that of the grid
            object source in one graph, which computes their common layers once.
        expression_graph: Whether the compiled form has Expression-Net, too.
        reasons: Detector of things that are told as further reasons beside the objects, with its
            settings, such as ``{"source": "light"}``; None without one.
    """

    name: str
    version: str
    network: NetworkConfig
    selector: SelectorConfig
    compiled: str | None = None
    recheck_ratio: float | None = None
    recheck_difference: float | None = None
    shared_graph: bool = False
    expression_graph: bool = False
    reasons: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.recheck_ratio is not None:
            check_number("recheck_ratio", self.recheck_ratio, least=1)
        if self.recheck_difference is not None:
            check_number("recheck_difference", self.recheck_difference, least=0, most=1)
            if self.recheck_ratio is not None:
                raise ValueError("recheck_ratio and recheck_difference exclude each other")
        if self.rechecks and self.compiled != INT8:
            raise ValueError("recheck_ratio is for a compiled form in int8")
        if self.reasons is not None and self.reasons.get("source") != LIGHT_THINGS:
            raise ValueError(f"reasons is {self.reasons}: expected {{source: {LIGHT_THINGS}}}")
        if self.compiled is not None and self.compiled not in PRECISIONS:
            raise ValueError(
                f"compiled is '{self.compiled}': expected one of {', '.join(PRECISIONS)}"
            )
        if self.shared_graph and not (self.compiled and self.sees_once):
            raise ValueError(
                "shared_graph is for a compiled form whose objects come from a grid on the whole "
                "picture, as Global-Net sees it"
            )

        if self.expression_graph and not (self.compiled and self.network.expression_width):
            raise ValueError("expression_graph is for a compiled form of a model with faces")

    def without_compiled_form(self) -> ArchiveConfig:
        """The same configuration, of the weights alone."""
        return replace(
            self,
            compiled=None,
            recheck_ratio=None,
            recheck_difference=None,
            shared_graph=False,
            expression_graph=False,
        )

    @property
    def rechecks(self) -> bool:
        """Whether a float32 form decides where the 8-bit form is unsure."""
        return self.recheck_ratio is not None or self.recheck_difference is not None

    @property
    def sees_once(self) -> bool:
        """Whether Global-Net and a grid object source, whose size is given, see the same pixels."""
        objects, size = self.selector.objects, self.selector.size
        return (
            self.network.global_backbone is not None
            and self.selector.fit == "squash"
            and objects.get("source") == "grid"
            and objects.get("size") == size
        )

    def to_json(self) -> str:
        """The text of ``config.json``."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "version": self.version,
            "network": self.network.to_dict(),
            "selector": asdict(self.selector),
        }
        if self.compiled is not None:
            values["compiled"] = self.compiled
        if self.recheck_ratio is not None:
            values["recheck_ratio"] = self.recheck_ratio
        if self.recheck_difference is not None:
            values["recheck_difference"] = self.recheck_difference
        if self.shared_graph:
            values["shared_graph"] = True
        if self.expression_graph:
            values["expression_graph"] = True
        if self.reasons is not None:
            values["reasons"] = self.reasons
        return json.dumps(values, indent=2, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ArchiveConfig:
        """Raises: ArchiveError: not a configuration of this format."""
        try:
            values = json.loads(text)
            if values["format"] != FORMAT:
                raise ArchiveError(
                    f"the archive has format {values['format']}; this program reads format {FORMAT}"
                )
            return cls(
                name=values["name"],
                version=values["version"],
                network=NetworkConfig.from_dict(values["network"]),
                selector=SelectorConfig.from_dict(values["selector"]),
                compiled=values.get("compiled"),
                **_read_rechecks(values),
                shared_graph=values.get("shared_graph", False),
                expression_graph=values.get("expression_graph", False),
                reasons=values.get("reasons"),
            )
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ArchiveError(f"config.json is not a model configuration: {error}") from None


def _read_rechecks(values: dict[str, Any]) -> dict[str, float | None]:
    """What a configuration says of rechecks."""
    ratio, difference = values.get("recheck_ratio"), values.get("recheck_difference")
    # Up to vea-lite 3.1 one number was either of the two: a difference is below 1.
    margin = values.get("recheck_margin")
    if margin is not None:
        ratio, difference = (None, margin) if margin < 1 else (margin, None)
    return {"recheck_ratio": ratio, "recheck_difference": difference}
