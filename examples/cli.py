"""The command line of the examples: what a user did wrong is told in a line, without a traceback."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def command(function: Callable[P, R]) -> Callable[P, R]:
    """Let a command end with a message and an exit status where an argument, a file or a package is not as it must be.

    Raises:
        SystemExit: with the message of the error; with status 130 after Ctrl-C.
    """

    @functools.wraps(function)
    def run(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return function(*args, **kwargs)
        except (ImportError, OSError, ValueError, FloatingPointError) as error:
            raise SystemExit(f"error: {error}") from None
        except KeyboardInterrupt:
            print("interrupted")
            sys.exit(130)

    return run
