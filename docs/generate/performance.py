"""The page of performance, from the JSON documents that `make bench` wrote."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from docs.generate.program import ROOT

FOLDER = ROOT / "docs" / "research" / "performance"
# The run with the program of before, and the run with today's; a page of one alone is whole too.
RUNS = ("before", "after")
FIGURES = {
    "megapixels": "How the cost grows with the size of a photo",
    "batch": "How it depends on the number of photos in a forward pass",
    "threads": "How it depends on threads",
    "list": "How `vea score` grows with the list, its start included",
}

Run = dict[str, Any]
Measured = dict[str, Any]

_HEAD = """# Performance

What a photo costs in CPU time, from the file to the row of the result. One command measures it all
and writes the tables below to the terminal and a JSON document to `bench.json`:

```sh
make bench                          # everything, about half an hour
python -m tests.bench --quick       # whether it runs; its figures mean nothing
python -m tests.bench --resume      # after an interruption, the sections that are missing
```

CPU seconds are compared, child processes included, because wall-clock time depends on what else the
machine does. Ways that are compared run in turns within one run, and a ratio is the median of the
ratios of each repetition. Figures of different runs on different machines cannot be compared.

What `vea` is compared with:

- The *naive script* is what one would write first: Pillow, dlib's face detector in colours with one
  upsampling, one photo at a time, the same networks in eager float32 PyTorch
  (`tests/bench/naive.py`). The *naive job* is the script between S3 and parquet.
- The *plain loop* gets a photo, calls `Predictor` with PyTorch as its runtime, and appends a row.
- *Ray Data* is `map_batches` with the same predictor in actors.
- The *floor* is the most expensive stage alone: no arrangement of the other stages gets below it.
"""


def page() -> str:
    """The page."""
    runs = {name: read(name) for name in RUNS if (FOLDER / f"{name}.json").is_file()}
    parts = [_HEAD, _about(runs)]
    for title, command, text, table in (
        ("Stages", "--only stages", _STAGES, _by_name("stages")),
        ("Photos in memory", "--only predictor", _MEMORY, _by_name("predictor")),
        ("From a list on S3 to parquet on S3", "--only jobs", _JOBS, _by_name("jobs", start=True)),
        ("TorchServe", "--only serving", _SERVING, _by_name("serving")),
        ("Start-up", "--only start", "CPU seconds and peak memory of short commands.", _starts),
        ("Ratios", "", _RATIOS, _ratios),
    ):
        section = command.removeprefix("--only ")
        if section and not any(measurements(run, section) for run in runs.values()):
            continue
        repeat = f"```sh\npython -m tests.bench {command}\n```\n\n" if command else ""
        parts.append(f"## {title}\n\n{repeat}{text}\n\n{table(runs)}")
    parts.append("## Growth\n")
    for name in shown():
        title = FIGURES[name]
        parts.append(
            f"### {title}\n\n```sh\npython -m tests.bench --only growth\n```\n\n"
            f"![{title}](performance/{name}.png)\n"
        )
    return "\n".join(parts)


_STAGES = """\
CPU milliseconds a photo, one thread, in batches as `Predictor` forms them. `Predictor` is decode,
resize, objects, faces and network together. Where one pass serves objects and Global-Net, its time
is that of *objects*, and *network* is what comes after. The time of the S3 server is not counted.
*Rows and queues* is what the threads of a job and its rows cost when photos and answers are at
hand."""
_MEMORY = "CPU milliseconds a photo and peak memory of one process."
_JOBS = """\
CPU milliseconds a photo, the start taken off by a second, shorter list. Workers have one thread
each, and so have the loops: more of them cost more CPU time a photo. `Predictor` is as many
processes of it at the same time, with photos in memory."""
_SERVING = """\
CPU milliseconds a photo, asked by the client with 16 threads. Workers have one thread each;
`Predictor` is as many processes of it at the same time."""
_RATIOS = """\
How many times less CPU time a photo takes, within one run; the range is that of the repetitions."""


def read(name: str) -> Run:
    """A run's JSON document."""
    document: Run = json.loads((FOLDER / f"{name}.json").read_text())
    return document


def measurements(run: Run, section: str) -> list[Measured]:
    """The measurements of a section."""
    return [one for one in run["measurements"] if one["section"] == section]


def _about(runs: dict[str, Run]) -> str:
    def line(title: str, cell: Callable[[dict[str, Any]], str]) -> list[str]:
        return [title, *(cell(run["about"]) for run in runs.values())]

    def model(about: dict[str, Any]) -> str:
        return "{name} {version}, runtime {runtime}".format(**about["model"])

    lines = [
        line("model", model),
        line("date", lambda about: about["date"]),
        line("processor", lambda about: f"{about['processor']}, {about['cores']} cores"),
        line("instructions", lambda about: ", ".join(about["instructions"])),
        line("libraries", lambda about: _versions(about["versions"])),
        line("photos", lambda about: about["photos"]),
        ["repetitions", *(_repetitions(run) for run in runs.values())],
        line("note", lambda about: about["note"]),
        line("command", _commands),
    ]
    return _table(["", *runs], lines)


def _repetitions(run: Run) -> str:
    """How often things were measured, such as "1 to 3"."""
    counts = sorted({len(one["cpu"]) for one in run["measurements"]})
    return " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))


def _commands(about: dict[str, Any]) -> str:
    """The commands of a run that was made in several, or its only one."""
    return ", ".join(f"`{command}`" for command in dict.fromkeys(about["commands"].values()))


def _versions(versions: dict[str, str]) -> str:
    return ", ".join(f"{name} {number}" for name, number in versions.items())


def _by_name(section: str, *, start: bool = False) -> Callable[[dict[str, Run]], str]:
    """A table of a section: a line for each way and number of threads, columns for each run."""

    def table(runs: dict[str, Run]) -> str:
        found: dict[tuple[str, int], dict[str, Measured]] = {}
        for name, run in runs.items():
            for one in measurements(run, section):
                found.setdefault((one["name"], one["threads"]), {})[name] = one
        heads = ["", "threads"]
        for name in runs:
            heads += [f"{name}: CPU ms", "peak MiB", *(["start, CPU s"] if start else [])]
        lines = []
        for (way, threads), known in found.items():
            line = [way, str(threads)]
            for name in runs:
                one = known.get(name, {})
                line += [_number(one, "cpu_ms", 1), _number(one, "peak_mib", 0)]
                line += [_number(one, "start_cpu_seconds", 1)] if start else []
            lines.append(line)
        return _table(heads, _without_empty(heads, lines))

    return table


def _starts(runs: dict[str, Run]) -> str:
    found: dict[tuple[str, int], dict[str, Measured]] = {}
    for name, run in runs.items():
        for one in measurements(run, "start"):
            found.setdefault((one["name"], one["threads"]), {})[name] = one
    heads = ["", *(f"{name}: {what}" for name in runs for what in ("CPU s", "peak MiB"))]
    lines = []
    for (way, threads), known in found.items():
        line = [way if threads == 1 else f"{way}, {threads} workers"]
        for name in runs:
            one = known.get(name, {})
            seconds = f"{statistics.median(one['cpu']):.2f}" if one else ""
            line += [seconds, _number(one, "peak_mib", 0)]
        lines.append(line)
    return _table(heads, lines)


def _ratios(runs: dict[str, Run]) -> str:
    found: dict[tuple[str, str, int], dict[str, str]] = {}
    for name, run in runs.items():
        for one in run["ratios"]:
            key = (one["way"], one["reference"], one["threads"])
            text = f"{one['value']:.2f} ({one['low']:.2f} to {one['high']:.2f})"
            found.setdefault(key, {})[name] = text
    lines = [
        [way, reference, str(threads), *(known.get(name, "") for name in runs)]
        for (way, reference, threads), known in found.items()
    ]
    return _table(["", "beside", "threads", *runs], lines)


def _number(one: Measured, key: str, digits: int) -> str:
    return f"{one[key]:.{digits}f}" if key in one else ""


def _without_empty(heads: list[str], lines: list[list[str]]) -> list[list[str]]:
    """The lines without the columns that no line fills; ``heads`` loses them too."""
    kept = [n for n in range(len(heads)) if n == 0 or any(line[n] for line in lines)]
    heads[:] = [heads[n] for n in kept]
    return [[line[n] for n in kept] for line in lines]


def _table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rule = ["---"] * len(heads)
    return "".join(f"| {' | '.join(line)} |\n" for line in [heads, rule, *lines])


def shown() -> list[str]:
    """Names of the figures that some run has values for."""
    files = (FOLDER / f"{name}.json" for name in RUNS)
    runs = [read(file.stem) for file in files if file.is_file()]
    return [name for name in FIGURES if any(measurements(run, name) for run in runs)]


def missing_figures() -> list[str]:
    """Names of the figures that the page shows and that do not exist."""
    files = [Path(FOLDER, f"{name}.png") for name in shown()]
    return [f"research/performance/{file.name}" for file in files if not file.is_file()]
