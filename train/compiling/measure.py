"""How far the compiled form of a model agrees with its float form: figures for the model card."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from handler.archive import files
from handler.predictor import Predictor
from handler.values.emotions import wheel
from handler.values.runtimes import ONNX, TORCH
from train.compiling.build import Calibration, choose_photos
from train.datasets.reading import read_dataset
from train.evaluation.evaluate import Evaluation, evaluate

_CALIBRATION, _EVALUATION = "train", "val"


def calibration_photos(model: Path, dataset: Path, count: int) -> Calibration:
    """Photos of a data set's training split, the same ones at each call.

    Args:
        model: Model folder or archive, whose emotions the data set must have.
        dataset: Data set in any layout that `read_dataset` knows.
        count: Number of photos.

    Raises:
        DatasetError: The data set or its training split does not exist.
    """
    config, _, _ = files.read_card(model)
    rows = read_dataset(dataset, wheel(config.network.wheel)).split(_CALIBRATION)
    photos = choose_photos([Path(path) for path in rows["path"]], count)
    return Calibration(photos, f"{dataset.name}, {_CALIBRATION}")


def measure_forms(
    folder: Path,
    dataset: Path,
    *,
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> dict[str, Any]:
    """Evaluate both forms of a model on the validation split, and note it in the model card.

    Args:
        folder: Model folder with a compiled form.
        dataset: Data set in any layout that `read_dataset` knows.
        on_progress: Callback with (images done, images in all), over both evaluations.

    Returns:
        What the card's ``compiled.evaluation`` says: accuracy, polarity accuracy, negative
        log-likelihood and accuracy of each emotion, for either form, the fraction of the photos
        whose most probable emotion differs, and the fraction that the 8-bit form was unsure of.

    Raises:
        DatasetError: The data set or its validation split does not exist.
    """
    forms: dict[str, Evaluation] = {}
    for runtime in (TORCH, ONNX):
        before = len(forms)
        predictor = Predictor.load(folder, runtime=runtime)
        forms[runtime] = evaluate(
            predictor,
            dataset,
            split=_EVALUATION,
            on_progress=lambda done, total, before=before: on_progress(  # type: ignore[misc]
                before * total + done, 2 * total
            ),
        )
    one, other = forms[TORCH].table["predicted"], forms[ONNX].table["predicted"]
    figures: dict[str, Any] = {
        "data": f"{dataset.name}, {_EVALUATION}",
        "photos": len(one),
        "changed_emotions": round(float((one != other).mean()), 5),
        "rechecked": round(predictor.rechecked / max(len(one), 1), 5),
        **{runtime: _figures(result) for runtime, result in forms.items()},
    }
    _, card, _ = files.read_card(folder)
    files.write_card(folder, {**card, "compiled": {**card["compiled"], "evaluation": figures}})
    return figures


def _figures(result: Evaluation) -> dict[str, Any]:
    document = result.to_dict()
    names = ("accuracy", "polarity_accuracy", "negative_log_likelihood")
    return {
        **{name: document[name] for name in names},
        "per_emotion": {
            emotion: values["accuracy"] for emotion, values in document["per_class"].items()
        },
    }
