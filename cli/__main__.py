"""`python -m lbal.cli` is `lbal`."""

from lbal.cli.main import main

main()
