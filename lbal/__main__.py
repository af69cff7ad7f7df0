"""`python -m lbal` is `lbal`."""

from lbal.cli.main import main

main()
