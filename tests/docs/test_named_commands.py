"""Commands, options, extras and targets in the pages are those that the program has."""

from __future__ import annotations

import re
from configparser import ConfigParser
from typing import Any

import pytest
import typer
from pages import PAGES, REPOSITORY, commands, inline, name

from vea.main import build_app

# Options of other programs that the pages name by themselves.
FOREIGN = {"--data-binary", "--gpus", "--cpus", "--kill-every", "--"}


@pytest.fixture(scope="module")
def program() -> Any:
    return typer.main.get_command(build_app())


def resolve(program: Any, words: list[str]) -> tuple[Any, list[str]]:
    """The command that words name, and the words after its name."""
    command, rest = program, words[1:]
    while rest and rest[0] in getattr(command, "commands", ()):
        command, rest = command.commands[rest[0]], rest[1:]
    return command, rest


def options(command: Any) -> set[str]:
    known = {"--help"}
    for parameter in command.params:
        known |= {*parameter.opts, *parameter.secondary_opts}
    return known


def unknown_options(program: Any, words: list[str]) -> list[str]:
    """Options that the command does not have; those after ``--`` are for `vea score`."""
    command, rest = resolve(program, words)
    known, unknown = options(command), []
    for word in rest:
        if word == "--":
            known = options(program.commands["score"])
        elif re.match(r"--?[a-z]", word) and word.partition("=")[0] not in known:
            unknown.append(word)
    return unknown


def test_a_wrong_option_is_noticed(program: Any) -> None:
    text = "```sh\nA=1 vea predict a.jpg --modle b.mar && vea score x --out y -- --json\n```"
    first, second = commands(text)
    assert unknown_options(program, first) == ["--modle"]
    assert unknown_options(program, second) == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_and_their_options_exist(program: Any, page: Any) -> None:
    wrong = {}
    for words in commands(page.read_text()):
        command, rest = resolve(program, words)
        if hasattr(command, "commands") and rest and re.fullmatch(r"[a-z][a-z-]+", rest[0]):
            wrong[" ".join(words)] = "no such command"
        elif unknown := unknown_options(program, words):
            wrong[" ".join(words)] = ", ".join(unknown)
    assert wrong == {}


def test_the_pages_hold_many_commands() -> None:
    assert sum(len(commands(page.read_text())) for page in PAGES) > 150


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_options_that_are_named_alone_belong_to_some_command(program: Any, page: Any) -> None:
    known, groups = set(FOREIGN), [program]
    while groups:
        command = groups.pop()
        known |= options(command)
        groups += getattr(command, "commands", {}).values()
    alone = {
        code.split()[0].partition("=")[0] for code in inline(page.read_text()) if code[:2] == "--"
    }
    assert alone - known == set()


def extras() -> set[str]:
    settings = ConfigParser()
    settings.read(REPOSITORY / "setup.cfg")
    return set(settings["options.extras_require"])


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_extras_that_are_installed_exist(page: Any) -> None:
    named = re.findall(r"pip install[^\n]*?['\"](?:vea|\.)\[([\w,]+)\]", page.read_text())
    assert {extra for group in named for extra in group.split(",")} - extras() == set()


def test_the_page_of_installation_lists_every_extra() -> None:
    page = (REPOSITORY / "docs" / "how-to" / "install.md").read_text()
    listed = re.findall(r"(?m)^\| `(\w+)` \|", page.partition("## Extras")[2])
    assert set(listed) == extras()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_targets_of_make_exist(page: Any) -> None:
    makefile = (REPOSITORY / "Makefile").read_text()
    targets = set(re.findall(r"(?m)^([\w-]+):", makefile))
    named = re.findall(r"(?m)(?:^|`)make ([a-z][\w-]*)", page.read_text())
    assert set(named) - targets == set()


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_modules_that_are_run_exist(page: Any) -> None:
    named = re.findall(r"python -m (tests(?:\.\w+)+)", page.read_text())
    places = [REPOSITORY / module.replace(".", "/") for module in named]
    wrong = [
        place
        for place in places
        if not place.with_suffix(".py").is_file() and not (place / "__main__.py").is_file()
    ]
    assert wrong == []
