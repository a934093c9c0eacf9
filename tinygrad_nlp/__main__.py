"""`python -m tinygrad_nlp COMMAND`: the commands of the library itself."""

import argparse
import io
import sys
from collections.abc import Sequence

from . import doctor


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command.

    Args:
        arguments: the words after `python -m tinygrad_nlp`; by default those of the command line.

    Raises:
        SystemExit: with status 2 and the usage, where there is no command or an unknown one.
    """
    parser = argparse.ArgumentParser(prog="python -m tinygrad_nlp", description="Commands of tinygrad_nlp.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    commands.add_parser("doctor", help="say what is at work on this machine, and what would make it better")
    parser.parse_args(arguments)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")  # a pipe on Windows has no ✓ by default
    print(doctor.report(doctor.diagnose()))


if __name__ == "__main__":
    main()
