"""Locations with the day and the model in them: ``s3://results/dt={date}/model_version={model_version}``.

A scheduled command is the same every time. What changes, the day and sometimes the model, is
written in braces.
"""

from __future__ import annotations

import re
from datetime import date, timedelta
from string import Formatter

from handler.values.errors import VeaError

_DAYS = ("date", "yyyy", "mm", "dd")
_MODELS = ("model_name", "model_version")


class TemplateError(VeaError):
    """A template or a date cannot be used; the message is one line for people."""


def fill(text: str, *, date: date | None, model_name: str | None, model_version: str | None) -> str:
    """Replace the names in braces by the day and the model.

    Args:
        text: Text with any of ``{date}`` (2026-11-23), ``{yyyy}``, ``{mm}``, ``{dd}``,
            ``{model_name}`` and ``{model_version}``; ``{{`` and ``}}`` stand for literal braces.
        date: Date for the names of days; None if the user gave none.
        model_name: None if there is no model.
        model_version: None if there is no model.

    Raises:
        TemplateError: A name is unknown, or its value is not given.
    """
    values = {
        "date": f"{date:%Y-%m-%d}" if date else None,
        "yyyy": f"{date:%Y}" if date else None,
        "mm": f"{date:%m}" if date else None,
        "dd": f"{date:%d}" if date else None,
        "model_name": model_name,
        "model_version": model_version,
    }
    try:
        pieces = list(Formatter().parse(text))
    except ValueError as error:
        raise TemplateError(
            f"'{text}' has a single brace ({error}): write {{{{ and }}}} for braces that are meant"
        ) from None
    filled = []
    for before, name, form, conversion in pieces:
        filled.append(before)
        if name is None:
            continue
        if name not in values or form or conversion:
            known = ", ".join(f"{{{known}}}" for known in values)
            raise TemplateError(
                f"'{text}' has an unknown name in braces: expected {known}; write {{{{ and }}}} "
                "for braces that are meant"
            )
        filled.append(_value(text, name, values[name]))
    return "".join(filled)


def _value(text: str, name: str, value: str | None) -> str:
    if value is None:
        option = "--date" if name in _DAYS else "--model"
        raise TemplateError(f"'{text}' has {{{name}}}: say which one with {option}")
    # Archives come from elsewhere: their names must not lead out of the folder.
    if name in _MODELS and not re.fullmatch(r"\w[\w.+@ -]*", value):
        raise TemplateError(
            f"the model's {name.removeprefix('model_')} '{value}' cannot stand in a path: "
            f"write it yourself in the place of {{{name}}}"
        )
    return value


def parse_date(text: str, *, today: date) -> date:
    """The date that a text names.

    Args:
        text: ``yesterday``, ``today`` or a date such as ``2026-11-23``.
        today: Date of today.

    Raises:
        TemplateError: The text has none of these forms.
    """
    if text == "today":
        return today
    if text == "yesterday":
        return today - timedelta(days=1)
    try:
        # Python also reads 20261123 and 2026-W48-1, which are more often mistakes than dates.
        if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text):
            raise ValueError("not of the form YYYY-MM-DD")
        return date.fromisoformat(text)
    except ValueError as error:
        raise TemplateError(
            f"'{text}' is not a date ({error}): expected yesterday, today or YYYY-MM-DD"
        ) from None
