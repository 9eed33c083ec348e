"""A job with the stub model as a program of its own, to be killed: LIST OUT PROCESSES."""

import multiprocessing
import sys
from pathlib import Path

import stub_model

from handler.values.errors import VeaError
from jobs.engines.processes import Processes
from jobs.run.driver import score_list
from jobs.values.job import ScoreJob

# Found by itself: workers know this folder alone.
ARCHIVE = max(Path(__file__).parents[2].glob("model_store/vea-lite-*.mar"))


def job(listed, out, chunk_size=4):
    return ScoreJob(
        image_list=str(listed), out=str(out), model=ARCHIVE, chunk_size=chunk_size, fetch_threads=2
    )


def tell(now):
    workers = [str(process.pid) for process in multiprocessing.active_children()]
    print(now.done, *workers, flush=True)


def main(listed, out, processes):
    try:
        score_list(
            job(listed, out),
            engine=Processes(int(processes)),
            load=stub_model.load,
            on_progress=tell,
            grace=60.0,
        )
    except VeaError as error:
        print(error, file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 1))


if __name__ == "__main__":
    main(*sys.argv[1:])
