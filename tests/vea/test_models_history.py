"""What a server's state folder remembers of its versions."""

from __future__ import annotations

from pathlib import Path

import pytest

from vea.serving.history import Action, Event, History


@pytest.fixture
def history(tmp_path: Path) -> History:
    return History(tmp_path)


def happen(history: History, action: Action, version: str, *, model: str = "m") -> Event:
    return history.record(
        action,
        model=model,
        version=version,
        digest=version * 64,
        file=f"{version}.mar",
        source=Path(f"/archives/{version}.mar"),
    )


def versions(*events: Event | None) -> list[str | None]:
    return [event and event.version for event in events]


def test_without_a_promotion_nobody_has_chosen_a_version(history: History) -> None:
    assert versions(history.current(), history.promoted(), history.previous()) == [None] * 3
    happen(history, "start", "1")
    assert versions(history.current(), history.promoted(), history.previous()) == ["1", None, None]
    assert history.files() == set()


def test_the_promoted_version_and_the_one_before_it_are_known(history: History) -> None:
    happen(history, "start", "1")
    happen(history, "promote", "2")
    happen(history, "promote", "3")
    assert versions(history.promoted(), history.previous()) == ["3", "2"]
    assert history.files() == {"3.mar", "2.mar"}


def test_rolling_back_twice_comes_back(history: History) -> None:
    happen(history, "start", "1")
    happen(history, "promote", "2")
    happen(history, "rollback", "1")
    assert versions(history.promoted(), history.previous()) == ["1", "2"]
    happen(history, "rollback", "2")
    assert versions(history.promoted(), history.previous()) == ["2", "1"]


def test_a_removed_version_is_nothing_to_roll_back_to(history: History) -> None:
    happen(history, "start", "1")
    happen(history, "promote", "2")
    happen(history, "promote", "3")
    happen(history, "remove", "2")
    assert versions(history.promoted(), history.previous()) == ["3", "1"]
    happen(history, "remove", "1")
    assert versions(history.previous()) == [None]
    happen(history, "promote", "2")
    assert versions(history.promoted(), history.previous()) == ["2", "3"]


def test_a_new_start_of_the_same_version_changes_nothing(history: History) -> None:
    happen(history, "start", "1")
    happen(history, "promote", "2")
    happen(history, "start", "2")
    assert versions(history.promoted(), history.previous()) == ["2", "1"]


def test_another_models_version_is_nothing_to_roll_back_to(history: History) -> None:
    happen(history, "start", "1", model="other")
    happen(history, "promote", "2")
    assert versions(history.previous()) == [None]


def test_a_line_cut_short_by_a_kill_costs_itself_alone(history: History) -> None:
    happen(history, "start", "1")
    happen(history, "promote", "2")
    whole = history.path.read_text()
    history.path.write_text(whole + whole.splitlines()[0][:40])
    assert versions(history.promoted()) == ["2"]
    happen(history, "promote", "3")
    assert versions(history.promoted(), history.previous()) == ["3", "2"]
