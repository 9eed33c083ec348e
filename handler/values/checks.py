"""Checks of settings that people write by hand: each error names the setting as it was written."""

from __future__ import annotations

from typing import Any


def check_number(
    name: str,
    value: Any,
    *,
    least: float,
    most: float | None = None,
    below: float | None = None,
    whole: bool = False,
) -> None:
    """See that a setting is a number in its range.

    Args:
        name: Name of the setting.
        value: Value as read from YAML or JSON.
        least: Minimum value, inclusive.
        most: Maximum value, inclusive.
        below: Upper bound, exclusive.
        whole: Whether the value must be an integer.

    Raises:
        ValueError: The value is not a number, or is out of range.
    """
    expected = f"{'a whole number' if whole else 'a number'} of at least {least}"
    expected += f" and at most {most}" if most is not None else ""
    expected += f" and less than {below}" if below is not None else ""
    if isinstance(value, str):
        raise ValueError(
            f"{name} is the text '{value}': expected {expected} (YAML wants 3.0e-4, not 3e-4)"
        )
    if isinstance(value, bool) or not isinstance(value, int if whole else int | float):
        raise ValueError(f"{name} is {value}: expected {expected}")
    if (
        not value >= least
        or (most is not None and not value <= most)
        or (below is not None and not value < below)
    ):
        raise ValueError(f"{name} is {value}: expected {expected}")
