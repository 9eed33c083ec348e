"""The program's start, as `vea` and as `python -m vea`."""

import os
import sys
from pathlib import Path

# `python -m`, and a PYTHONPATH with an empty entry, look for modules in the current folder first:
# a `jobs.py` or `handler.py` of the user's would stand in the place of this program's own. Two
# folders stay whoever stands in them: that of this program, and that of Python's own modules.
if Path.cwd() not in (Path(__file__).resolve().parents[1], Path(os.__file__).resolve().parent):
    sys.path[:] = [folder for folder in sys.path if folder not in ("", ".", str(Path.cwd()))]

from vea.main import main

if __name__ == "__main__":
    main()
