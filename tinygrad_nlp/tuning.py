"""Two settings of the process that make every training step faster.

glibc keeps the memory of freed arrays, and Python looks for cyclic garbage less often. `import tinygrad_nlp` makes
them. They touch more than this package, so the user's own settings win, `TINYGRAD_NLP_TUNE=0` in the environment
switches them off, and `python -m tinygrad_nlp doctor` tells what was done.
"""

import ctypes
import functools
import gc
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

# From glibc's malloc.h.
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3

_TRIM_BYTES = 2**31 - 1  # the most that an int holds: never give the top of the heap back
_MMAP_BYTES = 1 << 25  # the most that glibc takes on a 64-bit machine

# How a user of glibc sets the same two: as a variable of its own, or as one of the tunables.
_USER_VARIABLES = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_")
_USER_TUNABLES = ("glibc.malloc.trim_threshold", "glibc.malloc.mmap_threshold")

_PYTHONS_THRESHOLDS = (700, 2000)  # of the collector's youngest generation: until Python 3.12, and from 3.13
_THRESHOLD = 20_000  # new containers less freed ones: about 7,000 recorded operations


@dataclass(frozen=True)
class Tuning:
    """What was done.

    Attributes:
        what: "allocator" or "collector".
        applied: whether it was set.
        reason: why, or why not, in words.
    """

    what: str
    applied: bool
    reason: str


@functools.cache
def apply() -> tuple[Tuning, ...]:
    """Make both settings.

    It takes a fraction of a millisecond, never raises, and does its work once per process.

    Returns:
        What was done about each; the same records on every call.
    """
    return tuple(_apply(what, setting) for what, setting in (("allocator", _allocator), ("collector", _collector)))


def _apply(what: str, setting: Callable[[], tuple[bool, str]]) -> Tuning:
    if os.environ.get("TINYGRAD_NLP_TUNE") == "0":
        return Tuning(what, False, "switched off by TINYGRAD_NLP_TUNE=0")
    try:
        return Tuning(what, *setting())
    except Exception as error:  # a missed optimization must not become a failed import
        return Tuning(what, False, f"failed: {error!r}")


def _allocator() -> tuple[bool, str]:
    """Let glibc keep freed memory for the next step instead of returning it to the kernel.

    By default glibc gives the top of the heap back as soon as a little of it is free (128 kB at first, later
    twice the largest array that was freed), and takes large arrays from the kernel one by one (mallopt(3)). When a
    step's graph is freed, its arrays go, and the next step pays a page fault for every 4 kB. A recorded operation on
    10,000 floats, in a chain of 100, takes 13.2 µs so and 5.7 µs with the thresholds set here. The price: the
    process keeps what its largest step freed, except for arrays over 32 MB.
    """
    tunables = os.environ.get("GLIBC_TUNABLES", "")
    set_by_user = [name for name in _USER_VARIABLES if name in os.environ]
    set_by_user += [name for name in _USER_TUNABLES if name in tunables]
    if set_by_user:
        return False, f"left alone: {set_by_user[0]} is set in the environment"
    libc = ctypes.CDLL(None) if sys.platform == "linux" else None
    if libc is None or not hasattr(libc, "gnu_get_libc_version"):  # not in musl, the other C library of Linux
        return False, "not needed: the C library is not glibc"
    # mallopt returns 0 where it refuses a value. Either threshold helps without the other.
    accepted = libc.mallopt(_M_TRIM_THRESHOLD, _TRIM_BYTES) + libc.mallopt(_M_MMAP_THRESHOLD, _MMAP_BYTES)
    return accepted > 0, "freed arrays are kept for the next step" if accepted else "glibc refused it"


def _collector() -> tuple[bool, str]:
    """Let Python look for cyclic garbage after 20,000 new containers in place of 700.

    A graph has no cycles and is freed by reference counts, but while it grows, the collector walks over it again and
    again: of 100,000 operations, forward and backward, each took 6.0 µs with Python's threshold and 4.5 µs with this.
    The price: other people's cycles, and what they hold, live longer.
    """
    youngest, *older = gc.get_threshold()
    if youngest not in _PYTHONS_THRESHOLDS:
        return False, f"left alone: its threshold was set to {youngest}"
    gc.set_threshold(_THRESHOLD, *older)
    return True, f"runs after {_THRESHOLD:,} new containers in place of {youngest}"
