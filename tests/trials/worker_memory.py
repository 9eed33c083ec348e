"""Peak memory of a worker of `vea score`, with the compiled form and with the weights in PyTorch.

    python -m tests.trials.worker_memory --photos FOLDER --count 64
    python -m tests.trials.worker_memory --megapixels 12 --count 16

The same list with each runtime in turns, two workers. The largest memory of a single process is a
worker's, since the driver has neither networks nor photos. The second figure is that of all
processes of the command together, shared pages counted once. Of a process that grows for a moment
only, the kernel knows the peak all the same. With `--megapixels` the photos are enlarged.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from handler.values.runtimes import ONNX, TORCH
from tests.bench.meter import measured
from tests.bench.photos import BUNDLED, of_megapixels, photos_of
from tests.shipped import ARCHIVE
from tests.trials.serving_clients import table

_WORKERS = 2


def peaks_of(
    model: Path, photos: Sequence[bytes], runtimes: Sequence[str], rounds: int
) -> dict[str, list[tuple[float, float]]]:
    """For each runtime and round: MiB of the largest process, and of all together."""
    found: dict[str, list[tuple[float, float]]] = {runtime: [] for runtime in runtimes}
    with tempfile.TemporaryDirectory(prefix="vea-memory-") as folder:
        for number, photo in enumerate(photos):
            Path(folder, f"{number:04d}.jpg").write_bytes(photo)
        listed = Path(folder, "list.txt")
        listed.write_text("".join(f"{number:04d}.jpg\n" for number in range(len(photos))))
        for number in range(rounds):
            for runtime in runtimes:
                command = [
                    *(sys.executable, "-m", "vea", "score", str(listed), "--model", str(model)),
                    *("--out", f"{folder}/{runtime}-{number}", "--runtime", runtime),
                    *("--workers", str(_WORKERS), "--chunk-size", "8"),
                ]
                usage = measured(command)
                found[runtime].append((usage.peak_mib, usage.total_mib))
    return found


def main() -> None:
    """Print a markdown table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", type=Path, default=ARCHIVE)
    parser.add_argument("--photos", type=Path, default=BUNDLED, help="folder of photos")
    parser.add_argument("--count", type=int, default=64, help="number of photos")
    parser.add_argument("--megapixels", type=float, help="of each photo; as they are if not given")
    parser.add_argument("--runtimes", nargs="+", default=[TORCH, ONNX])
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    photos = photos_of(given.photos, given.count)
    if given.megapixels:
        photos = [of_megapixels(photo, given.megapixels) for photo in photos]
    rows = []
    for runtime, peaks in peaks_of(given.model, photos, given.runtimes, given.rounds).items():
        worker, everything = (statistics.median(values) for values in zip(*peaks, strict=True))
        spread = f"{min(one for one, _ in peaks):.0f} to {max(one for one, _ in peaks):.0f}"
        rows.append([runtime, f"{worker:.0f} ({spread})", f"{everything:.0f}"])
    print(table(["runtime", "worker, MiB", "all processes, MiB"], rows))


if __name__ == "__main__":
    main()
