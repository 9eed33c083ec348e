"""The page of commands, from the program's own help."""

from __future__ import annotations

import re
from typing import Any

import typer
from typer.cli import get_docs_for_click

from docs.generate.program import command_line

_ABOUT = """Every command with its arguments and options, as `vea COMMAND --help` prints them.
[Exit codes](exit-codes.md) are the same for all commands.
"""


def page() -> str:
    """The page."""
    root = typer.main.get_command(command_line())
    context: Any = root.make_context("vea", [], resilient_parsing=True)
    text = get_docs_for_click(obj=root, ctx=context, name="vea", title="Commands")
    for path, command in _groups(root, "vea"):
        text = _whole_summaries(text, path, command)
    heading, _, rest = text.partition("\n\n")
    return f"{heading}\n\n{_ABOUT}\n{_indented_code(rest).rstrip()}\n"


def _groups(command: Any, path: str) -> list[tuple[str, Any]]:
    """All groups of commands, the outermost first."""
    inside = getattr(command, "commands", None)
    if inside is None:
        return []
    found = [(path, command)]
    for name, one in inside.items():
        found += _groups(one, f"{path} {name}")
    return found


def _whole_summaries(text: str, path: str, group: Any) -> str:
    """Replace the shortened summaries of a group's list by whole ones that lead to the command."""
    for name, command in group.commands.items():
        summary = " ".join((command.help or "").split("\n\n")[0].split())
        anchor = f"{path} {name}".replace(" ", "-")
        # Commands of different groups share names, so only the entry below this group's heading.
        start = text.index("**Commands**", _heading(text, path))
        shortened = re.compile(rf"(?m)^\* `{re.escape(name)}`: .*$").search(text, start)
        if shortened is None:
            raise SystemExit(f"the list of {path} does not hold '{name}'")
        entry = f"* [`{name}`](#{anchor}): {summary}"
        text = text[: shortened.start()] + entry + text[shortened.end() :]
    return text


def _heading(text: str, path: str) -> int:
    return 0 if path == "vea" else text.index(f"# `{path}`\n")


def _indented_code(text: str) -> str:
    """Indented examples as fenced code, which every renderer of Markdown colours and copies."""
    blocks = []
    for block in text.split("\n\n"):
        lines = block.split("\n")
        if all(line.startswith("    ") for line in lines):
            lines = ["```sh", *(line[4:] for line in lines), "```"]
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)
