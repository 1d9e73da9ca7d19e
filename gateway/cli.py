"""The command line: a table of verbs, each imported only when it is used.

Exit codes: 0 good, 1 warnings or findings, 2 usage or configuration, 3 failed.
"""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from dataclasses import dataclass

from gateway import __version__
from gateway.errors import ConfigError, TapgateError

EXIT_GOOD, EXIT_FINDINGS, EXIT_USAGE, EXIT_FAILED = 0, 1, 2, 3


@dataclass(frozen=True, slots=True)
class Verb:
    """One verb: its module has `add_arguments(parser)` and `run(arguments) -> exit code`."""

    module: str
    help: str


VERBS: dict[str, Verb] = {
    "run": Verb("gateway.commands.run", "run the gateway daemon"),
    "guard": Verb("gateway.commands.guard", "drive each door to its state without a daemon; the unit runs it"),
    "web": Verb("gateway.commands.web", "serve the gateway's pages from a separate process"),
    "install": Verb("gateway.commands.install", "install units and system files, as root"),
    "hub": Verb("gateway.commands.hub", "run the hub daemon, or set it up: init, issue, revoke, gateways"),
    "accounts": Verb("gateway.commands.accounts", "create, list or end accounts of the hub's pages, and tokens"),
    "agent": Verb("gateway.commands.agent", "read a database or an export at the school and send it to the hub"),
    "attendance": Verb("gateway.commands.attendance", "derive marks from movements and explain them; writes nothing"),
    "audit": Verb("gateway.commands.audit", "verify the hub's audit log"),
    "mis": Verb("gateway.commands.mis", "check, preview or sync an MIS source; list and retire sources"),
    "check-config": Verb("gateway.commands.check_config", "check a configuration file and list every error"),
    "demo": Verb("gateway.commands.demo", "run a whole school on this machine, with emulated readers"),
    "bench": Verb("gateway.commands.bench", "measure our code and its peers on this machine"),
    "doctor": Verb("gateway.commands.doctor", "check machine and configuration, and tell you how to fix each problem"),
    "journal": Verb("gateway.commands.journal", "list, verify or export a journal"),
    "card": Verb("gateway.commands.card", "find the card number format of the MIS from a few taps"),
    "readers": Verb("gateway.commands.readers", "list the drivers, or try a configured reader"),
    "schema": Verb("gateway.commands.schema", "print the JSON Schema, AsyncAPI or OpenAPI description"),
    "wiring": Verb("gateway.commands.wiring", "check a wiring profile and print its firmware lines"),
}


# Packages that only some installations have, by the extra that brings them.
_EXTRAS = {
    "alembic": "hub",
    "argon2": "hub",
    "charset_normalizer": "hub",
    "httpx2": "hub",
    "iotcore": "demo",
    "joserfc": "hub",
    "pika": "amqp",
    "psycopg": "postgres",
    "pyotp": "hub",
    "sqlalchemy": "hub",
}


def _parser(verb: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("tapgate", description="The reader gateway for schools.")
    parser.add_argument("--version", action="version", version=f"tapgate {__version__}")
    subparsers = parser.add_subparsers(dest="verb", metavar="VERB", required=True)
    for name, entry in VERBS.items():
        subparser = subparsers.add_parser(name, help=entry.help, description=entry.help)
        if name == verb:
            importlib.import_module(entry.module).add_arguments(subparser)
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    verb = next((word for word in words if not word.startswith("-")), None)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    try:
        parsed = _parser(verb).parse_args(words)
        code: int = importlib.import_module(VERBS[parsed.verb].module).run(parsed)
    except ConfigError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)
        return EXIT_USAGE
    except TapgateError as error:
        print(error, file=sys.stderr)
        return EXIT_FAILED
    except ModuleNotFoundError as error:
        extra = _EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            raise
        print(
            f"`tapgate {verb}` needs the package {error.name!r}, which is missing; install tapgate with the extra "
            f"{extra!r} (README, Install).",
            file=sys.stderr,
        )
        return EXIT_FAILED
    except KeyboardInterrupt:
        return EXIT_GOOD
    return code
