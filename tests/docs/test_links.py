"""Links lead to files and headings, and files that are named exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from markdown.extensions.toc import slugify
from pages import PAGES, REPOSITORY, fenced, inline, links, name

_FILE = re.compile(r"(tests|handler|train|jobs|vea|deploy|docs|model_store)/[\w./-]*")


def anchors(page: Path) -> set[str]:
    """What the headings of a page are linked by."""
    text = page.read_text()
    for language, block in fenced(text):
        text = text.replace(f"```{language}\n{block}```", "")
    headings = re.findall(r"(?m)^#+ +(.+?)\s*$", text)
    return {slugify(heading.replace("`", ""), "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in links(page.read_text()):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        missing = not target.exists()
        if missing or (anchor and target.suffix == ".md" and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_code_blocks_end(page: Path) -> None:
    fences = re.findall(r"(?m)^ *```(.*)$", page.read_text())
    assert len(fences) % 2 == 0
    assert not any(fences[1::2])  # a language would begin a block, not end one


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_files_of_the_project_that_are_named_exist(page: Path) -> None:
    named = [code for code in inline(page.read_text()) if _FILE.fullmatch(code)]
    assert [file for file in named if not (REPOSITORY / file).exists()] == []
