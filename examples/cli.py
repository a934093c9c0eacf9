"""The command line of the examples: what a user did wrong is told in a line, runs are interrupted and resumed."""

from __future__ import annotations

import dataclasses
import functools
import inspect
import io
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

import tyro

from tinygrad_nlp.data import DataLoader
from tinygrad_nlp.training import Checkpoint, Trainer

P = ParamSpec("P")
R = TypeVar("R")
S = TypeVar("S", bound=Any)


def write_utf8() -> None:
    """Print arrows and Greek letters wherever the output goes: a pipe on Windows, or one of LC_ALL=C, has none."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")  # for names of files that are not


def epochs(default: int) -> Any:
    """What `--help` shows of `epochs: int | None = None`, which a resumed run has from before.

    Args:
        default: of a new run.
    """
    return tyro.conf.arg(metavar="INT", help_behavior_hint=f"(default: {default}; of a resumed run, as many as it had)")


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


def refuse_idle(flags: Callable[..., Any], values: Mapping[str, Any], idle: Mapping[str, tuple[object, str]]) -> None:
    """Refuse a flag that has no effect where it was given: who gives it believes that it has one.

    Args:
        flags: a function or dataclass whose parameters are the flags, with their defaults.
        values: of the flags; one with its default was not given.
        idle: by name of the flag, whether it has no effect here, and where that is: "without --beam".

    Raises:
        ValueError: there is one; the message says where it has none.
    """
    parameters = inspect.signature(flags).parameters
    for name, (is_idle, where) in idle.items():
        if is_idle and values[name] != parameters[name].default:
            raise ValueError(f"--{name.replace('_', '-')} has no effect {where}: leave it out")


def epochs_of(given: int | None, default: int) -> int:
    """How many epochs a run has.

    Args:
        given: what came of the flag.
        default: of a new run.

    Raises:
        ValueError: it is below 1.
    """
    count = default if given is None else given
    if count < 1:
        raise ValueError(f"--epochs must be at least 1, not {count}")
    return count


def fit(trainer: Trainer, loader: DataLoader, epochs: int, resume: Checkpoint | None, path: Path) -> None:
    """Train; Ctrl-C ends the program, and it says what is left.

    Args:
        trainer: with a `SaveCheckpoint` among its callbacks.
        loader: see `Trainer.fit`.
        epochs: see there.
        resume: see there.
        path: of its checkpoint.

    Raises:
        SystemExit: with status 130, where it was interrupted.
    """
    try:
        trainer.fit(loader, epochs, resume)
    except KeyboardInterrupt:
        if trainer.interrupted:
            print(f"interrupted after {trainer.steps} steps; --resume goes on from {path}")
        else:
            print("interrupted in the middle of a step: what was done since the last checkpoint is lost")
        raise SystemExit(130) from None


def load(path: Path, settings: Callable[..., S], example: str, *more: str) -> tuple[Checkpoint, S]:
    """A checkpoint that `train` left, and its settings.

    Args:
        path: of the file.
        settings: the dataclass.
        example: whose it is, as "examples.dates".
        more: what it has in `extra` besides "settings".

    Raises:
        FileNotFoundError: there is none.
        ValueError: the file is cut short, or of something else.
    """
    if not path.is_file():
        raise FileNotFoundError(f"there is no {path}: run `python -m {example} train` first")
    checkpoint = Checkpoint.load(path)
    known = inspect.signature(settings).parameters.keys()
    if not (checkpoint.extra.keys() >= {"settings", *more} and checkpoint.extra["settings"].keys() <= known):
        raise ValueError(f"{path} is not a checkpoint of {example}, or of another version of it")
    return checkpoint, settings(**checkpoint.extra["settings"])


def resumed(settings: S, before: S) -> S:
    """The settings of a resumed run: those of before, in the folder that is given now, with more epochs where given.

    Args:
        settings: a dataclass with `epochs`, `out` and `resume`, as given now.
        before: as given then.

    Raises:
        ValueError: another flag was given, and it differs.
    """
    refuse_changes(settings, before, but=("epochs", "out", "resume"))
    return dataclasses.replace(before, epochs=max(settings.epochs or 0, before.epochs), out=settings.out)


def refuse_changes(settings: Any, before: Any, but: tuple[str, ...]) -> None:
    """Refuse a flag that a resumed run does not take, as it goes on with what was given when it began.

    Args:
        settings: a dataclass, as given now.
        before: as given then.
        but: names of flags that count.

    Raises:
        ValueError: another one was given, and it differs.
    """
    idle = {
        name: (value != getattr(settings, name), f"with --resume, which goes on with {value!r}")
        for name, value in vars(before).items()
        if name not in but
    }
    refuse_idle(type(settings), vars(settings), idle)
