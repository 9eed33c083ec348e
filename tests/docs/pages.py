"""The written pages of the project, and the commands and links in them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [
        *REPOSITORY.glob("*.md"),
        *(REPOSITORY / "docs").rglob("*.md"),
        REPOSITORY / "model_store" / "README.md",
        REPOSITORY / "jobs" / "schedules" / "README.md",
    ]
)
_FENCE = re.compile(r"(?ms)^```(\w*)\n(.*?)^```")
_SUBSTITUTED = re.compile(r"\$\((vea [^)]*)\)")
_ENDS = {"&&", "||", "|", ";", "and", "then"}


def name(page: Path) -> str:
    """A page as tests call it."""
    return str(page.relative_to(REPOSITORY))


def fenced(text: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return _FENCE.findall(text)


def inline(text: str) -> list[str]:
    """What stands between single backticks, each on one line."""
    return [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", _FENCE.sub("", text))]


def links(text: str) -> list[str]:
    """Targets of links and pictures, without those to other hosts."""
    outside_code = re.sub(r"`[^`]*`", "", _FENCE.sub("", text))
    found = re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", outside_code)
    targets = [one or other for one, other in found]
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def commands(text: str) -> list[list[str]]:
    """The words of each `vea` command in code, the first of them ``vea``."""
    lines = []
    for language, block in fenced(text):
        if language in ("", "sh", "console", "bash"):
            lines += block.replace("\\\n", " ").splitlines()
    indented = re.findall(r"(?m)^    (vea .*)$", text.replace("\\\n", " "))
    lines += [*indented, *(code for code in inline(text) if code.startswith("vea "))]
    found = []
    for line in lines:
        found += [one.split() for one in _SUBSTITUTED.findall(line)]
        words = _words(_SUBSTITUTED.sub("", line))
        starts = [at for at, word in enumerate(words) if word == "vea" and _begins(words[:at])]
        for start in starts:
            rest = words[start:]
            end = next((at for at, word in enumerate(rest) if word in _ENDS), len(rest))
            found.append(rest[:end])
    return [words for words in found if len(words) > 1]


def _begins(before: list[str]) -> bool:
    """Whether a command can begin after these words: prompts, variables, or another command."""
    for word in reversed(before):
        if word in _ENDS:
            return True
        if word not in ("$", "nice") and not re.match(r"[A-Z_]+=", word):
            return False
    return True


def _words(line: str) -> list[str]:
    try:
        words = shlex.split(line, comments=True)
    except ValueError:  # a quotation that goes on in the next line
        words = line.split()
    # Optional parts are in brackets, and a comma may follow a command in a sentence.
    return [word.strip("[],") for word in words if word.strip("[],")]
