"""Files that are either the old one or the new, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path


def replace_file(path: str | os.PathLike[str], content: bytes) -> None:
    """Write a file; an old one is replaced when the new one is whole and on the disk.

    Args:
        path: of the file.
        content: all of it.

    Raises:
        OSError: it cannot be written; the message names it.
    """
    path = Path(path)
    _clear_leftovers(path)
    # With the permissions of any new file, unlike mkstemp's.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with contextlib.suppress(OSError):  # where there can be no such file
            temporary.unlink()
        if isinstance(error, OSError):
            error.filename = str(path)  # the user knows nothing of the temporary file
            del error.filename2  # os.replace has two; None would be printed
        raise


def _clear_leftovers(path: Path) -> None:
    """Remove what processes that were killed while they wrote this file have left beside it.

    What a living process writes under this name goes, too: it fails, and the file stays whole. No two should write one.
    """
    leftover = re.compile(rf"\.{re.escape(path.name)}\.\d+\.tmp")
    with contextlib.suppress(OSError):  # a folder that cannot be listed; on Windows, a file that is open
        for file in path.parent.iterdir():
            if leftover.fullmatch(file.name):
                file.unlink(missing_ok=True)
