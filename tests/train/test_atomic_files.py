import os
from pathlib import Path

import pytest

from handler.atomic_files import atomic_write


def test_a_file_takes_its_place_when_the_block_has_ended(tmp_path: Path) -> None:
    place = tmp_path / "new" / "file"
    with atomic_write(place) as partial:
        partial.write_text("half")
        assert not place.exists()
        partial.write_text("whole")
    assert place.read_text() == "whole"
    assert os.listdir(place.parent) == ["file"]


def test_an_error_leaves_the_old_file_and_nothing_beside_it(tmp_path: Path) -> None:
    place = tmp_path / "file"
    place.write_text("old")
    with pytest.raises(TypeError), atomic_write(place) as partial:
        partial.write_text(7)
    assert place.read_text() == "old"
    assert os.listdir(tmp_path) == ["file"]


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    place = tmp_path / "file"
    with atomic_write(place) as one, atomic_write(place) as other:
        one.write_text("one")
        other.write_text("other")
    assert place.read_text() == "one"
