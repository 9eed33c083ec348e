"""Evaluation of an archive on a labelled data set.

Encoded images go through `Predictor`, as they do when served.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from handler.predictor import Predictor
from handler.values.emotions import POLARITY, Wheel
from handler.values.errors import VeaError
from handler.values.prediction import Prediction, Refusal
from train.datasets.reading import read_dataset
from train.datasets.remarks import remarks
from train.datasets.table import DatasetError, DatasetTable
from train.evaluation.metrics import Scores, plain_values

_WINDOW = 64  # images read at a time
_TRAINED_ON = (
    "all images are measured; a model that was trained on this data set has seen some of them: "
    "--split test has those that it has not"
)


@dataclass(frozen=True)
class Evaluation:
    """Results of an evaluation; `to_dict` gives the content of ``--json FILE``.

    Attributes:
        scores: Labels, probabilities and every metric that follows from them.
        model: Name, version and digest of the archive.
        split: Name of the split.
        table: Table with one row for each image, as `predictions_table` returns it.
        placeholders: Number of files of the data set that were left out as placeholders.
        seconds: Duration of reading and scoring, in seconds.
    """

    scores: Scores
    model: dict[str, str]
    split: str
    table: pd.DataFrame
    placeholders: int
    seconds: float

    @property
    def refused(self) -> dict[str, int]:
        """How many images could not be scored, by reason."""
        reasons = self.table["refused"]
        return dict(Counter(reasons[reasons != ""]))

    @property
    def images_per_second(self) -> float:
        """Images scored in a second."""
        return self.scores.images / self.seconds if self.seconds else float("nan")

    def to_dict(self) -> dict[str, Any]:
        """Plain values; NaN, which JSON lacks, becomes None."""
        refused = self.refused
        return {
            "model": self.model,
            "split": self.split,
            **self.scores.to_dict(),
            "refused": {"count": sum(refused.values()), "reasons": refused},
            "placeholders_skipped": self.placeholders,
            "seconds": round(self.seconds, 3),
            "images_per_second": plain_values(self.images_per_second),
        }


def evaluate(
    predictor: Predictor,
    data: Path,
    *,
    split: str | None = None,
    labels: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
    on_remarks: Callable[[list[str]], None] = lambda remarks: None,
) -> Evaluation:
    """Score a split of a data set.

    A data set with other emotions than the archive's, or with polarities alone, is measured on
    polarity: the archive's probabilities are summed (Eq. 14 and 15) and judged on that wheel.

    Args:
        predictor: Predictor of the archive to measure.
        data: Data set in any layout that `read_dataset` knows.
        split: Name of the split, ``train``, ``val``, ``test`` or ``all``. By default ``test`` where
            the data set comes with one, else ``val``; a data set without splits is scored whole.
        labels: File that says what classes mean that are numbers; see `read_dataset`.
        on_progress: Callback with (images done, images in all).
        on_remarks: Callback with remarks on the data set, before the first image is scored.

    Raises:
        DatasetError: The data set or the split does not exist.
    """
    dataset = _read(data, predictor.wheel, labels)
    split = split or _default_split(dataset)
    rows = dataset.split(split)
    on_remarks(
        [
            *remarks(dataset, splits=None if split == "all" else (split,)),
            *([_TRAINED_ON] if split == "all" and dataset.split_source != "given" else []),
        ]
    )
    started = time.perf_counter()
    answers = predict_files(predictor, rows["path"].tolist(), on_progress=on_progress)
    seconds = time.perf_counter() - started
    model = predictor.model
    table = predictions_table(rows, answers, dataset.wheel, root=dataset.root)
    return Evaluation(
        scores=_scores(table, dataset.wheel),
        model=model.to_dict(),
        split=split,
        table=table,
        placeholders=dataset.placeholders,
        seconds=seconds,
    )


def predict_files(
    predictor: Predictor,
    paths: list[str],
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Prediction | Refusal]:
    """One answer for each file; a file that cannot be read is refused."""
    answers: list[Prediction | Refusal] = []
    for start in range(0, len(paths), _WINDOW):
        contents: list[bytes] = []
        unread: dict[int, Refusal] = {}
        window = paths[start : start + _WINDOW]
        for position, path in enumerate(window):
            try:
                contents.append(Path(path).read_bytes())
            except OSError as error:
                unread[position] = Refusal(404, f"cannot be read ({error.strerror})")
        read = iter(predictor.predict(contents))
        answers += [unread[i] if i in unread else next(read) for i in range(len(window))]
        on_progress(len(answers), len(paths))
    return answers


def predictions_table(
    rows: pd.DataFrame, answers: list[Prediction | Refusal], wheel: Wheel, *, root: Path
) -> pd.DataFrame:
    """Predictions of each image as a table.

    Args:
        rows: Rows of a `DatasetTable`.
        answers: Answers of the predictor, one for each row.
        wheel: Wheel of the labels; where the predictor has another, it must be the polarity wheel.
        root: Folder that paths are made relative to.

    Returns:
        Table with columns ``image`` (relative path), ``label``, ``split``, ``predicted``,
        ``p_positive``, one ``p_<emotion>`` for each emotion, and ``refused``: empty, or why there
        is no prediction, in which case the predicted emotion is empty and the probabilities are
        NaN.
    """
    records = []
    for path, label, split, answer in zip(
        rows["path"], rows["label"], rows["split"], answers, strict=True
    ):
        record = {"image": relative_path(path, root), "label": wheel.labels[label], "split": split}
        if isinstance(answer, Refusal):
            p = dict.fromkeys(wheel.labels, float("nan"))
            said = {"predicted": "", "p_positive": float("nan"), "refused": answer.reason}
        else:
            p = _probabilities(answer, wheel)
            predicted = max(wheel.labels, key=p.__getitem__)
            said = {"predicted": predicted, "p_positive": answer.p_positive, "refused": ""}
        # On the polarity wheel p_positive is an emotion's column, too.
        records.append({**record, **said, **{f"p_{name}": value for name, value in p.items()}})
    columns = ["image", "label", "split", "predicted", "p_positive"]
    columns += [f"p_{name}" for name in wheel.labels if f"p_{name}" not in columns]
    return pd.DataFrame(records, columns=[*columns, "refused"])


def write_predictions(table: pd.DataFrame, target: Path) -> None:
    """Write the table to a .parquet or .csv file.

    Raises:
        VeaError: See `check_predictions_file`.
    """
    check_predictions_file(target)
    if target.suffix == ".csv":
        table.to_csv(target, index=False)
    else:
        table.to_parquet(target, engine="pyarrow", index=False)


def check_predictions_file(target: Path) -> None:
    """Check that predictions can be written, before an hour is spent on computing them.

    Raises:
        VeaError: The file's name ends in neither .parquet nor .csv, or its folder does not exist.
        ModuleNotFoundError: The package that writes such files is not installed.
    """
    if target.suffix not in (".parquet", ".csv"):
        raise VeaError(f"cannot write predictions to {target}: expected a .parquet or .csv file")
    if not target.parent.is_dir():
        raise VeaError(f"cannot write predictions to {target}: there is no folder {target.parent}")
    if target.suffix == ".parquet":
        import_module("pyarrow")


def relative_path(path: str, root: Path) -> str:
    """A file's path as tables name it: relative to the data set, if it lies in it."""
    place = Path(path)
    return place.relative_to(root).as_posix() if place.is_relative_to(root) else place.as_posix()


def _read(data: Path, wheel: Wheel, labels: Path | None) -> DatasetTable:
    """The data set on the archive's wheel if that is possible, else on the polarity wheel."""
    try:
        return read_dataset(data, wheel, labels=labels)
    except DatasetError as error:
        try:
            return read_dataset(data, POLARITY, labels=labels)
        except DatasetError:
            raise error from None


def _default_split(dataset: DatasetTable) -> str:
    if dataset.split_source == "random":
        return "all"
    present = set(dataset.table["split"])
    return next(name for name in ("test", "val", "train") if name in present)


def _probabilities(answer: Prediction, wheel: Wheel) -> dict[str, float]:
    if set(answer.probabilities) == set(wheel.labels):
        return answer.probabilities
    # Summed logarithms may come out a rounding error above 1.
    positive = min(answer.p_positive, 1.0)
    return {"positive": positive, "negative": 1.0 - positive}


def _scores(table: pd.DataFrame, wheel: Wheel) -> Scores:
    scored = table[table["refused"] == ""]
    return Scores(
        wheel=wheel,
        labels=np.array([wheel.index(label) for label in scored["label"]], dtype=np.int64),
        probabilities=scored[[f"p_{name}" for name in wheel.labels]].to_numpy(dtype=np.float64),
        p_positive=scored["p_positive"].to_numpy(dtype=np.float64),
    )
