"""The gateway's API keys: who is let in, what the file may hold, and `vea web`'s wrong uses."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from handler.values.errors import VeaError
from vea.commands import web as command
from vea.web.keys import KeyRing, new_key


def web(*arguments: str) -> Result:
    app = typer.Typer()
    app.callback()(lambda: None)
    command.register(app)
    return CliRunner().invoke(app, ["web", *arguments])


def test_a_key_is_let_in_under_its_name_and_no_other_is(tmp_path: Path) -> None:
    keys = {name: new_key(name) for name in ("phone", "site")}
    (tmp_path / "keys").write_text("# ours\n\n" + "\n".join(line for _, line in keys.values()))
    ring = KeyRing(tmp_path / "keys")
    assert {name: ring.owner(key) for name, (key, _) in keys.items()} == {
        "phone": "phone",
        "site": "site",
    }
    for wrong in ("", "vea_", keys["phone"][0][:-1], keys["phone"][1].split(":")[1], "é\udcff"):
        assert ring.owner(wrong) is None


def test_the_file_never_holds_the_key(tmp_path: Path) -> None:
    key, line = new_key("phone")
    assert key not in line
    assert key != new_key("phone")[0]


def test_a_line_that_is_taken_out_no_longer_opens_anything(tmp_path: Path) -> None:
    (key, line), (_, other) = new_key("phone"), new_key("other")
    file = tmp_path / "keys"
    file.write_text(f"{line}\n{other}\n")
    ring = KeyRing(file)
    assert ring.owner(key) == "phone"
    file.write_text(other)
    assert ring.owner(key) is None
    file.write_text(f"{line}\n")
    os.utime(file, ns=(1, 1))
    assert ring.owner(key) == "phone"
    file.unlink()
    assert ring.owner(key) is None


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "holds no key"),
        ("phone", "line 1"),
        ("phone md5:0000", "line 1"),
        ("# x\nphone sha256:abc", "line 2"),
        (f"a sha256:{'0' * 64}\na sha256:{'1' * 64}", "twice"),
    ],
)
def test_a_file_that_is_no_list_of_keys_is_refused_in_words(
    tmp_path: Path, content: str, said: str
) -> None:
    (tmp_path / "keys").write_text(content)
    with pytest.raises(VeaError, match=said):
        KeyRing(tmp_path / "keys")


def test_a_key_is_printed_once_with_its_line(tmp_path: Path) -> None:
    printed = web("--new-key", "phone")
    assert printed.exit_code == 0
    key, line = (printed.stdout.splitlines()[i].strip() for i in (1, 3))
    (tmp_path / "keys").write_text(line)
    assert KeyRing(tmp_path / "keys").owner(key) == "phone"


def test_a_name_of_two_words_names_no_key() -> None:
    assert isinstance(web("--new-key", "two words").exception, VeaError)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "example.org"])
def test_an_address_that_others_reach_needs_keys(host: str) -> None:
    refused = web("--host", host)
    assert refused.exit_code == 2
    assert "--new-key" in refused.stderr.replace("\n", " ")
