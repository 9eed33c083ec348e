"""Soft labels: the blend of labels and predictions, and the files that hold the latter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from handler.values.emotions import MIKELS
from train.datasets.table import DatasetError
from train.fitting.soft_labels import soft_targets

NAMES = ["awe/1.png", "awe/2.png", "fear/3.png"]
ROWS = pd.DataFrame(
    {
        "path": [f"/data/{name}" for name in NAMES],
        "label": [MIKELS.index("awe"), MIKELS.index("awe"), MIKELS.index("fear")],
    }
)
COLUMNS = [f"p_{emotion}" for emotion in MIKELS.labels]


def answers(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(len(MIKELS)), size=len(NAMES))


def predictions(folder: Path, values: np.ndarray, names: list[str] = NAMES) -> Path:
    """A file as `vea evaluate --predictions` writes it, its columns and rows in another order."""
    table = pd.DataFrame(values, columns=COLUMNS).assign(image=names, label="awe", refused="")
    target = folder / f"{len(list(folder.iterdir()))}.parquet"
    table.iloc[::-1, ::-1].to_parquet(target)
    return target


def blend(files: list[Path], weight: float) -> np.ndarray:
    return soft_targets(ROWS, files, MIKELS, root=Path("/data"), weight=weight).numpy()


def labels() -> np.ndarray:
    return np.eye(len(MIKELS))[ROWS["label"]]


def test_labels_are_blended_with_the_mean_of_what_the_models_say(tmp_path: Path) -> None:
    first, second = answers(1), answers(2)
    files = [predictions(tmp_path, first), predictions(tmp_path, second)]
    expected = 0.7 * labels() + 0.3 * (first + second) / 2
    assert blend(files, 0.3) == pytest.approx(expected, abs=1e-6)
    assert blend(files, 0.3).sum(axis=1) == pytest.approx(1, abs=1e-6)


def test_a_photo_is_softened_by_the_models_that_speak_of_it(tmp_path: Path) -> None:
    first, second = answers(1), answers(2)
    first[1] = np.nan  # as of a photo that was refused
    files = [predictions(tmp_path, first), predictions(tmp_path, second[:2], NAMES[:2])]
    found = blend(files, 0.5)
    assert found[0] == pytest.approx((labels()[0] + (first[0] + second[0]) / 2) / 2, abs=1e-6)
    assert found[1] == pytest.approx((labels()[1] + second[1]) / 2, abs=1e-6)
    assert found[2] == pytest.approx((labels()[2] + first[2]) / 2, abs=1e-6)


def test_a_photo_of_which_no_model_speaks_keeps_its_label(tmp_path: Path) -> None:
    found = blend([predictions(tmp_path, answers(1)[:2], NAMES[:2])], 0.5)
    assert found[2].tolist() == labels()[2].tolist()
    assert found[0].max() < 1


def test_a_table_of_text_serves_too(tmp_path: Path) -> None:
    file = predictions(tmp_path, answers(1))
    text = tmp_path / "predictions.csv"
    pd.read_parquet(file).to_csv(text, index=False)
    assert blend([text], 0.4) == pytest.approx(blend([file], 0.4), abs=1e-6)


def test_predictions_of_other_photos_are_refused(tmp_path: Path) -> None:
    file = predictions(tmp_path, answers(1), ["other/1.png", "other/2.png", "other/3.png"])
    with pytest.raises(DatasetError, match=r"none of the training photos.*--split train"):
        blend([file], 0.5)


@pytest.mark.parametrize("name", ["missing.parquet", "text.parquet", "scores.csv"])
def test_what_holds_no_predictions_is_refused_in_one_line(tmp_path: Path, name: str) -> None:
    (tmp_path / "text.parquet").write_text("not a table")
    pd.DataFrame({"image": NAMES, "p_awe": 1.0}).to_csv(tmp_path / "scores.csv")
    with pytest.raises(DatasetError, match="vea evaluate --predictions") as raised:
        blend([tmp_path / name], 0.5)
    assert "\n" not in str(raised.value)


def test_torch_can_train_on_soft_targets(tmp_path: Path) -> None:
    found = soft_targets(
        ROWS, [predictions(tmp_path, answers(1))], MIKELS, root=Path("/data"), weight=0.5
    )
    assert found.dtype == torch.float32
    assert found.argmax(1).tolist() == ROWS["label"].tolist()
