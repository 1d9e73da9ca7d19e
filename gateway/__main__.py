"""Lets `python -m gateway` stand for the `tapgate` command."""

import sys

from gateway.cli import main

if __name__ == "__main__":
    sys.exit(main())
