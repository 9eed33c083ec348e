"""`python -m vea`: the same program as `vea`."""

import sys
from pathlib import Path

# `python -m` looks for modules in the current folder first: a `jobs.py` or `handler.py` of the
# user's would stand in the place of this program's own. A checkout is this program's own folder.
if not sys.flags.safe_path and Path.cwd() != Path(__file__).resolve().parents[1]:
    sys.path[:] = [folder for folder in sys.path if folder not in ("", str(Path.cwd()))]

from vea.main import main

main()
