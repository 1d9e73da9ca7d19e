"""`tapgate guard`: drive each door to its state without a daemon; run by the unit before it starts and after it ended.

It needs neither configuration nor network; see outputs.guard.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gateway.errors import RefusedError
from gateway.outputs.guard import drive_doors, guard_files, read_guard_file


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the verb's arguments."""
    parser.add_argument(
        "file", nargs="?", type=Path, help="the doors.json to use (default: the service's, then the one in /var/lib)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Drive the doors of the first file that can be read; exit code 0 done or nothing to do, 3 when a pin failed."""
    refused = False
    for path in [arguments.file] if arguments.file else guard_files():
        try:
            doors = read_guard_file(path)
        except FileNotFoundError:
            continue
        except RefusedError as error:
            print(error, file=sys.stderr)
            refused = True
            continue
        faults = drive_doors(doors)
        for door in doors:
            print(f"{door.point}: GPIO {door.pin} {'high' if door.high else 'low'}")
        for fault in faults:
            print(fault, file=sys.stderr)
        return 3 if faults else 0
    return 3 if refused else 0
