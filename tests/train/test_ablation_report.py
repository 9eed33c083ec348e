"""What a table says: paired differences, honest nulls, and the same figures everywhere."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from train.ablation.report import CSV, PLOT, TABLE, markdown, table_cells, to_frame, write_report
from train.ablation.runs import Outcome
from train.ablation.studies import STUDIES, Study, Variant, build_study
from train.ablation.summary import RowSummary, summarise

STUDY = build_study("branches", Variant())
PHOTOS = 400


def outcome(hits: np.ndarray, hard: np.ndarray | None = None, seconds: float = 1.0) -> Outcome:
    hard = np.zeros(len(hits), dtype=bool) if hard is None else hard
    return Outcome(hits, ~hard, hard, {"seconds": seconds})


def hits(share: float, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.permutation(PHOTOS) < round(share * PHOTOS)


def summary(rows: list[RowSummary], name: str) -> RowSummary:
    return next(row for row in rows if row.name == name)


def test_the_difference_of_a_row_from_itself_is_nothing() -> None:
    same = [outcome(hits(0.7, seed)) for seed in (1, 2, 3)]
    rows = summarise(STUDY, {"G+S+E": same, "G+S": same})
    for name in ("G+S+E", "G+S"):
        difference = summary(rows, name).difference
        assert difference is not None
        assert (difference.value, *difference.interval, difference.std) == (0, 0, 0, 0)
    assert summary(rows, "G+S+E").reading == "reference"
    assert summary(rows, "G+S").reading == "no clear difference"


def test_a_difference_is_taken_photo_by_photo() -> None:
    """Two per cent are seen although the intervals of both rows are wider than that."""
    full = hits(0.70)
    worse = full.copy()
    worse[np.flatnonzero(full)[:10]] = False
    rows = summarise(STUDY, {"G+S+E": [outcome(full)], "S+E": [outcome(worse)]})
    reference, other = summary(rows, "G+S+E"), summary(rows, "S+E")
    assert other.accuracy.interval[1] > reference.accuracy.value
    assert other.difference is not None
    assert other.difference.value == pytest.approx(-10 / PHOTOS)
    assert other.difference.interval[1] < 0
    assert other.reading == "lower"


def test_a_null_result_reads_as_one() -> None:
    rows = summarise(
        STUDY,
        {
            "G+S+E": [outcome(hits(0.70, seed)) for seed in (1, 2)],
            "G+E": [outcome(hits(0.71, seed)) for seed in (3, 4)],
        },
    )
    row = summary(rows, "G+E")
    assert row.difference is not None
    assert row.difference.value > 0
    assert row.reading == "no clear difference"
    assert "no clear difference" in markdown(STUDY, rows, {})


def test_figures_are_means_over_seeds_and_the_spread_is_between_them() -> None:
    hard = hits(0.1, 9)
    rows = summarise(
        STUDY,
        {"G+S+E": [outcome(hits(share) & ~hard, hard, share * 10) for share in (0.6, 0.7, 0.8)]},
    )
    row = rows[0]
    shares = [float((hits(share) & ~hard).mean()) for share in (0.6, 0.7, 0.8)]
    assert row.seeds == 3
    assert row.accuracy.value == pytest.approx(np.mean(shares))
    assert row.accuracy.std == pytest.approx(np.std(shares, ddof=1))
    low, high = row.accuracy.interval
    assert low < row.accuracy.value < high
    assert row.hard.value == pytest.approx(0.1)
    assert row.polarity.value == pytest.approx(0.9)
    assert row.accuracy.value + row.hard.value + row.easy == pytest.approx(1)
    assert row.seconds == pytest.approx(7)


def test_without_the_reference_there_are_no_differences_and_one_seed_has_no_std() -> None:
    rows = summarise(STUDY, {"G": [outcome(hits(0.6))]})
    assert rows[0].difference is None
    assert rows[0].reading == ""
    assert math.isnan(rows[0].accuracy.std)
    assert summarise(STUDY, {}) == []


def made_up(study: Study, seeds: int = 2) -> dict[str, list[Outcome]]:
    return {
        name: [
            outcome(hits(0.5 + 0.02 * place, 10 * place + seed) & ~hits(0.2), hits(0.2))
            for seed in range(seeds)
        ]
        for place, name in enumerate(study.rows)
    }


@pytest.mark.parametrize("name", STUDIES)
def test_table_and_csv_agree_and_the_chart_is_a_picture(name: str, tmp_path: Path) -> None:
    study = build_study(name, Variant())
    rows = summarise(study, made_up(study))
    written = write_report(study, rows, tmp_path / name, facts={"seeds": 2})
    assert [path.name for path in written] == [TABLE, CSV, PLOT]
    numbers = pd.read_csv(tmp_path / name / CSV, dtype={"row": str}).set_index("row")
    assert list(numbers.index) == list(study.rows)
    lines = (tmp_path / name / TABLE).read_text().splitlines()
    table = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    heads, cells = table[0], {row[0]: dict(zip(table[0], row, strict=True)) for row in table[2:]}
    assert heads[1] == "accuracy"
    for row, values in numbers.iterrows():
        shown = cells[str(row)]
        low, high = 100 * values["accuracy_low"], 100 * values["accuracy_high"]
        assert shown["accuracy"] == f"{100 * values['accuracy']:.1f} [{low:.1f} to {high:.1f}]"
        assert shown["hard"] == f"{100 * values['hard']:.1f}"
        assert shown["reading"] == values["reading"]
        if row != study.reference:
            assert shown["difference"].startswith(f"{100 * values['difference']:+.1f} [")
    with Image.open(tmp_path / name / PLOT) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300


def test_the_table_says_what_the_paper_found_and_how_rows_were_trained(tmp_path: Path) -> None:
    rows = summarise(STUDY, made_up(STUDY))
    text = markdown(STUDY, rows, {"recipe": "lite"})
    assert "- recipe: lite" in text
    assert "72.42" in text
    assert "frozen" in text
    assert "95 % interval" in text
    assert table_cells(rows[0], STUDY)[-1] == "64.16"
    assert to_frame(rows)["paper_percent"].tolist()[-1] == "72.42"


@pytest.mark.parametrize("name", STUDIES)
def test_half_a_study_can_be_drawn(name: str, tmp_path: Path) -> None:
    study = build_study(name, Variant())
    few = {row: outcomes for row, outcomes in made_up(study).items() if row != study.reference}
    first = dict(list(few.items())[:1])
    write_report(study, summarise(study, first), tmp_path, facts={})
    assert (tmp_path / PLOT).stat().st_size > 0
