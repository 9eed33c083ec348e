"""`vea backfill`: the runs of several days, one after the other."""

from __future__ import annotations

import datetime
import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer

from handler.values.errors import VeaError
from vea.terminal import out as terminal_out

_USAGE = 2
_STOPPED = {128 + signal.SIGINT, 128 + signal.SIGTERM}
_OWN = ("--out", "--model", "--date", "--json")  # options of `score` that are ours to give


class BackfillError(VeaError):
    """The days cannot be scored one by one; the message is one line for people."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(backfill)


def backfill(
    image_list: Annotated[
        str,
        typer.Argument(
            metavar="LIST", help="The list of a day, with {date} or {yyyy}, {mm} and {dd} in it."
        ),
    ],
    out: Annotated[str, typer.Option(help="Folder of a day's result, likewise.")],
    model: Annotated[Path, typer.Option(help="The archive to score with (.mar or folder).")],
    first: Annotated[
        str, typer.Option("--from", help="The first day: YYYY-MM-DD, yesterday or today.")
    ],
    last: Annotated[str, typer.Option("--to", help="The last day, likewise; it is scored too.")],
    keep_going: Annotated[
        bool, typer.Option("--keep-going", help="Go on with the next day when one has failed.")
    ] = False,
    options: Annotated[
        list[str] | None,
        typer.Argument(metavar="-- OPTIONS", help="After --: further options of `vea score`."),
    ] = None,
) -> None:
    """Score many days: `vea score` once for each, the earliest first.

        vea backfill s3://lists/{date}.parquet --out s3://results/dt={date} --model vea.mar
        --from 2026-11-01 --to yesterday -- --workers 8 --max-error-rate 0.05

    Each day is scored by a program of its own, so a day that crashes takes no other along. Days
    that are finished are passed over within seconds, so the same command fills whatever is missing.
    One line a day says what came of it; what else `score` has to say is on standard error.

    It ends at the first day that fails, with the exit code of `vea score`; with --keep-going at the
    last day, with the exit code of the first that failed. Ctrl-C and SIGTERM stop it as they stop
    `vea score`.
    """
    days = _days(first, last)
    options = options or []
    fill = _filler(model)
    _check(image_list, out, options, fill, days)
    failed = []
    runner = _Runner()
    with runner.listen():
        for day in days:
            code, said = runner.run(_command(image_list, out, model, day, options))
            terminal_out().print(_line(day, code, _read(said)), markup=False, soft_wrap=True)
            if runner.signal is not None:
                raise typer.Exit(128 + runner.signal)
            if code:
                failed.append(code)
                # Wrong usage is wrong on the next day, too.
                if not keep_going or code == _USAGE:
                    break
    if failed:
        raise typer.Exit(failed[0])


def _command(
    image_list: str, out: str, model: Path, day: datetime.date, options: Sequence[str]
) -> list[str]:
    return [
        # -P: no package of this name from the folder that we happen to be in.
        *(sys.executable, "-P", "-m", "vea", "score", image_list),
        *("--out", out, "--model", str(model), "--date", day.isoformat(), "--json", *options),
    ]


def _days(first: str, last: str) -> list[datetime.date]:
    from jobs.values.templates import parse_date

    today = datetime.date.today()
    start, end = parse_date(first, today=today), parse_date(last, today=today)
    if start > end:
        raise BackfillError(f"--from {start} is after --to {end}: expected the earlier day first")
    return [start + datetime.timedelta(days=n) for n in range((end - start).days + 1)]


def _filler(model: Path) -> Callable[..., str]:
    from handler.archive.files import read_card
    from jobs.values.templates import fill

    config, _, _ = read_card(model)
    return partial(fill, model_name=config.name, model_version=config.version)


def _check(
    image_list: str,
    out: str,
    options: Sequence[str],
    fill: Callable[..., str],
    days: Sequence[datetime.date],
) -> None:
    """Refuse what would fail on every day, or score a day's images into another's folder."""
    for option in options:
        if option.partition("=")[0] in _OWN:
            raise BackfillError(f"'{option}' stands after --, but is an option of backfill itself")
    for what, template in (("LIST", image_list), ("--out", out)):
        if len({fill(template, date=day) for day in days}) < len(days):
            raise BackfillError(
                f"{what} '{template}' is the same for several days: expected {{date}} in it"
            )


class _Runner:
    """Runs one program after the other, and hands signals on to the one that is running.

    Attributes:
        signal: Signal that requests a stop; None until one arrives.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._running: subprocess.Popen[bytes] | None = None

    @contextmanager
    def listen(self) -> Iterator[None]:
        """Take the signals over for the context."""
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self._hand_on) for number in numbers}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def run(self, command: Sequence[str]) -> tuple[int, bytes]:
        """The exit code of a program, and what it wrote to standard output."""
        # In a group of its own Ctrl-C reaches it once, through us, and not from the terminal too:
        # the second signal would end its grace.
        with subprocess.Popen(command, stdout=subprocess.PIPE, process_group=0) as process:
            self._running = process
            if self.signal is not None:  # it came while the program was being started
                process.send_signal(self.signal)
            said, _ = process.communicate()
            self._running = None
        code = process.returncode
        return (128 - code if code < 0 else code), said

    def _hand_on(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        if self._running:
            self._running.send_signal(number)


def _read(said: bytes) -> dict[str, Any]:
    """The summary that `vea score` wrote; empty if it came to none."""
    try:
        return dict(json.loads(said))
    except ValueError:
        return {}  # a line on standard error says why


def _line(day: datetime.date, code: int, summary: dict[str, Any]) -> str:
    """What came of a day."""
    if code in _STOPPED:
        return f"{day}  stopped; the same command goes on from here"
    if code or not summary:
        return f"{day}  failed with exit code {code}"
    images = f"{summary['rows']} images, {summary['failed']} of them failed"
    if not summary["complete"]:
        return f"{day}  {images}; other shards are missing"
    if not summary["scored"]:
        return f"{day}  {images}; finished before"
    return f"{day}  {images}; {summary['seconds']:.0f} s, {summary['images_per_second']:.1f}/s"
