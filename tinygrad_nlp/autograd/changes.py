"""Finds saved arrays that were changed in place between forward and backward.

NumPy arrays have no version counter. So every change that goes through this library (`x.data -= ...`, an optimizer's
step) is stamped with the time on a clock that also gives operations their order: an array whose last change is later
than the operation that saved it no longer holds what the gradient needs. Stamps belong to the owner of the memory, so
that views and detached Variables share them. What the library cannot see is a write to the array behind its back
(`x.data[0] = 1`), as in every framework that shares memory with NumPy.
"""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Iterable
from typing import Any

from ..backend import Array, is_array

tick = itertools.count(1).__next__  # the clock

_stamps: dict[int, list[Any]] = {}  # by the id of the memory's owner: when it changed last, and a reference to it
_latest = 0


def mark_changed(array: Array) -> None:
    """Note that the memory of an array has just been changed in place.

    Args:
        array: of any shape and dtype; a view stands for all of the memory that it looks at.
    """
    global _latest
    owner = _owner(array)
    key = id(owner)
    now = tick()
    if now > _latest:  # of two threads at once, the later one counts
        _latest = now
    stamp = _stamps.get(key)
    if stamp is None:
        _stamps[key] = [now, weakref.ref(owner, lambda _: _stamps.pop(key, None))]
    else:
        stamp[0] = now


def latest() -> int:
    """When anything was last changed: a graph younger than this needs no closer look."""
    return _latest


def changed_since(time: int, arrays: Iterable[object]) -> bool:
    """Whether the memory of one of some arrays was changed after a time.

    Args:
        time: of the clock `tick`.
        arrays: what was saved; things that are no arrays never change.

    Returns:
        True or False.
    """
    return any(_stamps.get(id(_owner(array)), (0,))[0] > time for array in arrays if is_array(array))


def _owner(array: Array) -> Array:
    """Whose memory it is: the end of the chain of views.

    Not every link is an array: `as_strided` and `sliding_window_view` put a plain object in between, and an array made
    of a buffer stands on a memoryview.
    """
    while True:
        base = array.base
        if isinstance(base, memoryview):
            base = base.obj
        if not hasattr(base, "base"):
            return array
        array = base
