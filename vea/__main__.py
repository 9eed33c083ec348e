"""`python -m vea`: the same program as `vea`."""

from vea.main import main

main()
