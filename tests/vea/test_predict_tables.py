"""The tables of `vea predict` say names as they are."""

from rich.console import Console

from handler.values.prediction import Refusal
from vea.tables import show


def test_brackets_in_a_name_are_not_taken_for_markup() -> None:
    console = Console(record=True, width=120)
    show(console, {"holiday [edited].jpg": Refusal(422, "damaged [/here]")})
    text = console.export_text()
    assert "holiday [edited].jpg" in text
    assert "damaged [/here]" in text
