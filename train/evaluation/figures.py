"""The paper's Figures 12 to 15, drawn for any archive and any labelled photos.

The correct predictions of highest confidence show each branch: the class activation maps of
Global-Net (Fig. 12), the objects that Semantic-Net attended to (Fig. 13), the faces that
Expression-Net read (Fig. 14). Fig. 15 shows the errors of highest confidence, of the right and of
the wrong polarity apart. Every figure is one picture, and one JSON file that lists its photos.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from handler.drawing.canvas import framed, percent, photo_within, word_colour
from handler.drawing.overlays import draw_activation, draw_face, draw_face_crop, draw_objects
from handler.images import decode
from handler.predictor import Predictor
from handler.values.emotions import Wheel
from handler.values.prediction import Prediction
from train.datasets.reading import read_dataset
from train.evaluation.contact_sheet import TILE, Section, Tile, Words, contact_sheet
from train.evaluation.evaluate import predict_files, relative_path

_FRAME = (TILE, 225)
_FACE = 192  # four pixels for each pixel of a crop
_WINDOW = 16  # photos read at a time

Draw = Callable[[torch.Tensor, Prediction], list[Image.Image]]
Tell = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class Scored:
    """A photo, its label and its prediction."""

    path: str
    label: str
    prediction: Prediction

    @property
    def is_right(self) -> bool:
        """Whether the most probable emotion is the labelled one."""
        return self.prediction.emotion == self.label

    @property
    def confidence(self) -> float:
        """Probability of the most probable emotion."""
        return self.prediction.probabilities[self.prediction.emotion]


@dataclass(frozen=True)
class _Figure:
    """Content of a figure before it is drawn: sections of photos by heading."""

    number: int
    name: str
    title: str
    legend: str
    sections: dict[str, Sequence[Scored]]
    missing: str
    draw: Draw
    tell: Tell


def make_figures(
    predictor: Predictor,
    data: Path,
    folder: Path,
    *,
    split: str = "val",
    labels: Path | None = None,
    count: int = 8,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Path]:
    """Draw the four figures.

    Args:
        predictor: Predictor of the archive to explain.
        data: Data set in any layout that `read_dataset` knows, on the archive's wheel.
        folder: Folder of the output, created if it does not exist; files of the same names are
            replaced.
        split: Name of the split, ``train``, ``val``, ``test`` or ``all``.
        labels: File that says what classes mean that are numbers; see `read_dataset`.
        count: Number of photos in a figure, dealt to the emotions in turn; Fig. 15 has as many easy
            failures and as many hard ones.
        on_progress: Callback with (photos scored, photos in all).

    Returns:
        Paths of four pictures and four JSON files.

    Raises:
        DatasetError: The data set or the split does not exist.
    """
    dataset = read_dataset(data, predictor.wheel, labels=labels)
    rows = dataset.split(split)
    paths = rows["path"].tolist()
    folder.mkdir(parents=True, exist_ok=True)
    answers = predict_files(predictor, paths, on_progress=on_progress)
    scored = [
        Scored(path, dataset.wheel.labels[label], answer)
        for path, label, answer in zip(paths, rows["label"], answers, strict=True)
        if isinstance(answer, Prediction)
    ]
    about = {
        "model": vars(predictor.model),
        "split": split,
        "photos": len(scored),
        "refused": len(paths) - len(scored),
    }
    files = []
    for figure in _figures(predictor, scored, count):
        files += _write(figure, predictor, about, root=dataset.root, folder=folder)
    return files


def best_of_each_emotion(scored: Iterable[Scored], wheel: Wheel, count: int) -> list[Scored]:
    """Correct predictions by confidence: the best of each emotion, then the second best, ..."""
    right = sorted((one for one in scored if one.is_right), key=_surest_first)
    by_emotion = [[one for one in right if one.label == label] for label in wheel.labels]
    dealt = chain.from_iterable(zip_longest(*by_emotion))
    chosen = [one for one in dealt if one is not None][:count]
    return sorted(chosen, key=lambda one: wheel.index(one.label))


def worst_failures(
    scored: Iterable[Scored], wheel: Wheel, count: int
) -> tuple[list[Scored], list[Scored]]:
    """Errors by confidence: easy ones, whose emotion has the right polarity, and hard ones."""
    easy: list[Scored] = []
    hard: list[Scored] = []
    for one in sorted(scored, key=_surest_first):
        if not one.is_right:
            sides = {wheel.polarity(wheel.index(e)) for e in (one.label, one.prediction.emotion)}
            (easy if len(sides) == 1 else hard).append(one)
    return easy[:count], hard[:count]


def _surest_first(one: Scored) -> tuple[float, str]:
    return (-one.confidence, one.path)


def _figures(predictor: Predictor, scored: Sequence[Scored], count: int) -> Iterator[_Figure]:
    network, wheel = predictor.network, predictor.wheel

    def best(photos: Iterable[Scored]) -> dict[str, Sequence[Scored]]:
        return {"": best_of_each_emotion(photos, wheel, count)}

    yield _Figure(
        *(12, "activation", "Global-Net: where the whole photo spoke for its emotion"),
        legend="Class activation maps; red: most evidence for the emotion, blue: least.",
        sections=best(scored if network.global_net else ()),
        missing=_missing("Global-Net", network.global_net),
        draw=_photo_and_activation,
        tell=lambda answer: {"activation": answer["activation"]},
    )
    yield _Figure(
        *(13, "objects", "Semantic-Net: which objects were attended to"),
        legend="The deeper the colour, the more attention; per cent of the attention in the photo.",
        sections=best(s for s in scored if network.semantic_net and s.prediction.objects),
        missing=_missing("Semantic-Net", network.semantic_net),
        draw=_photo_and_objects,
        tell=lambda answer: {k: answer[k] for k in ("objects", "detected") if k in answer},
    )
    yield _Figure(
        *(14, "faces", "Expression-Net: which expressions were read"),
        legend="Below each photo its largest face as the network got it: 48 x 48 pixels, aligned.",
        sections=best(s for s in scored if network.expression_net and s.prediction.face),
        missing=_missing("Expression-Net", network.expression_net),
        draw=_photo_and_face,
        tell=lambda answer: {"face": answer["face"]},
    )
    easy, hard = worst_failures(scored, wheel, count)
    yield _Figure(
        *(15, "failures", "What was most surely wrong"),
        legend="Orange: positive emotions; blue: negative ones.",
        sections={
            "Easy: another emotion of the same polarity": easy,
            "Hard: an emotion of the other polarity": hard,
        },
        missing="There are none.",
        draw=lambda image, answer: [framed(photo_within(image, _FRAME), _FRAME)],
        tell=lambda answer: {"probabilities": answer["probabilities"]},
    )


def _missing(name: str, branch: torch.nn.Module | None) -> str:
    if branch is None:
        return f"This network has no {name}."
    return "There are none among the photos that were predicted right."


def _write(
    figure: _Figure, predictor: Predictor, about: dict[str, Any], *, root: Path, folder: Path
) -> list[Path]:
    """Draw one figure and list its photos."""
    sections, listed = [], []
    for heading, photos in figure.sections.items():
        tiles = []
        for one, image in _explained(predictor, photos):
            tiles.append(Tile(figure.draw(image, one.prediction), _caption(one)))
            listed.append(_item(one, heading, figure.tell, predictor, root))
        sections.append(Section(heading, tiles, figure.missing))
    which = "wrong" if figure.name == "failures" else "right"
    model = predictor.model
    notes = [
        f"{model.name} {model.version}, {about['photos']} photos ({about['split']}); "
        f"those shown are the most confident {which} predictions.",
        figure.legend,
    ]
    picture = folder / f"figure-{figure.number}-{figure.name}.png"
    contact_sheet(figure.title, notes, sections).save(picture)
    listing = picture.with_suffix(".json")
    document = {"figure": figure.number, "title": figure.title, **about, "items": listed}
    listing.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    return [picture, listing]


def _explained(
    predictor: Predictor, photos: Sequence[Scored]
) -> Iterator[tuple[Scored, torch.Tensor]]:
    """The same photos with their reasons, and decoded (uint8, 3xHxW)."""
    for start in range(0, len(photos), _WINDOW):
        window = photos[start : start + _WINDOW]
        contents = [Path(one.path).read_bytes() for one in window]
        answers = predictor.predict(contents, explain=True)
        for one, encoded, answer in zip(window, contents, answers, strict=True):
            assert isinstance(answer, Prediction)  # it was one a moment ago
            yield Scored(one.path, one.label, answer), decode(encoded, predictor.limits)


def _caption(one: Scored) -> list[Words]:
    said = one.prediction.emotion
    colour = word_colour(said)
    if one.is_right:
        return [Words(f"{said} {percent(one.confidence)}", colour, bold=True)]
    return [
        Words(f"labelled {one.label}", word_colour(one.label)),
        Words(f"predicted {said} {percent(one.confidence)}", colour, bold=True),
    ]


def _item(
    one: Scored, section: str, tell: Tell, predictor: Predictor, root: Path
) -> dict[str, Any]:
    answer = one.prediction.to_dict(predictor.model, explain=True)
    kind = {"kind": section.split(":", maxsplit=1)[0].lower()} if section else {}
    return {
        "image": relative_path(one.path, root),
        "label": one.label,
        "predicted": one.prediction.emotion,
        "probability": one.confidence,
        **kind,
        **tell(answer),
    }


def _photo_and_activation(image: torch.Tensor, answer: Prediction) -> list[Image.Image]:
    drawing = draw_activation(image, answer, within=_FRAME)
    return [framed(photo_within(image, _FRAME), _FRAME), framed(drawing, _FRAME)]


def _photo_and_objects(image: torch.Tensor, answer: Prediction) -> list[Image.Image]:
    drawing = draw_objects(image, answer, within=_FRAME, text=14, named=3)
    return [framed(photo_within(image, _FRAME), _FRAME), framed(drawing, _FRAME)]


def _photo_and_face(image: torch.Tensor, answer: Prediction) -> list[Image.Image]:
    photo = draw_face(image, answer, within=_FRAME)
    crop = draw_face_crop(answer, side=_FACE)
    return [framed(photo, _FRAME), framed(crop, (TILE, _FACE))]
