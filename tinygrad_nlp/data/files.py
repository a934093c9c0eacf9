"""Where real data lie: in the user's own folder, in the cache, or at a public address.

A data file has a name such as "dlfs2/date.txt". It is looked for in this order:

1. in the folder that the environment variable `TINYGRAD_NLP_DATA` names;
2. in the cache folder of the user (`cache_folder`);
3. at its public address, from where it is downloaded into the cache (`fetch` only).
"""

from __future__ import annotations

import hashlib
import os
import sys
import warnings
from pathlib import Path

VARIABLE = "TINYGRAD_NLP_DATA"  # of the environment

_PTB = "https://raw.githubusercontent.com/tomsercu/lstm/master/data"
_SST2 = "https://raw.githubusercontent.com/clairett/pytorch-sentiment-classification/master/data/SST2"
_DLFS2 = "https://raw.githubusercontent.com/oreilly-japan/deep-learning-from-scratch-2/master/dataset"

# name -> (public address, sha256 of the file)
REGISTRY = {
    "dlfs2/addition.txt": (
        f"{_DLFS2}/addition.txt",
        "34e0746f5014c11311c9452ee9050bf14e38eca44ec4aaf4d81eba2b38674009",
    ),
    "dlfs2/date.txt": (
        f"{_DLFS2}/date.txt",
        "62e66a301ce8537868e725512d2a45663fc366526b7e42028cb703bda2b1c79a",
    ),
    "ptb/ptb.train.txt": (
        f"{_PTB}/ptb.train.txt",
        "fcea919f6cf83f35d4d00c6cbf08040d13d4155226340912e2fef9c9c4102cbf",
    ),
    "ptb/ptb.valid.txt": (
        f"{_PTB}/ptb.valid.txt",
        "c9fe6985fe0d4ccb578183407d7668fc6066c20700cb4cf87d8ff1cc34df1bf2",
    ),
    "ptb/ptb.test.txt": (
        f"{_PTB}/ptb.test.txt",
        "dd65dff31e70846b2a6030a87482edcd5d199130cdcfa1f3dccbb033728deee0",
    ),
    "sentiment_sst2/train.tsv": (
        f"{_SST2}/train.tsv",
        "ec192f833a64da08f475488a77b0d0b47db47acd0f458bd18433fc793b569920",
    ),
    "sentiment_sst2/dev.tsv": (
        f"{_SST2}/dev.tsv",
        "eddea6b39e601dd4e7a672b53cc40fdf6019fa80522f351206c24340ca5d9359",
    ),
    "sentiment_sst2/test.tsv": (
        f"{_SST2}/test.tsv",
        "831169c7e2e429d6026e1bdbb542f33b636e3e596caad9602ebc953c205928b7",
    ),
    "timemachine/timemachine.txt": (
        "http://d2l-data.s3-accelerate.amazonaws.com/timemachine.txt",
        "8424dbd9532ac81f7e5f0b6add90e6952baea29158309d7d1bf3884f4e12c516",
    ),
}


def cache_folder() -> Path:
    """Where downloads are kept.

    It is the folder that `pooch.os_cache("tinygrad_nlp")` gives, found without pooch, so that a file that was
    downloaded once is still found where pooch is not installed.

    Returns:
        The folder; it need not exist yet.
    """
    if sys.platform == "win32":
        local = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
        return Path(local, "tinygrad_nlp", "tinygrad_nlp", "Cache")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "tinygrad_nlp"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "tinygrad_nlp")


def find(name: str) -> Path | None:
    """The place of a data file on this machine.

    A file whose sha256 is not the expected one is still given, with a UserWarning that names both: upstream files
    change, and a user may have a version of their own.

    Args:
        name: the file's name in the registry, with forward slashes, e.g. "dlfs2/date.txt".

    Returns:
        The path, or None where the file is neither under `TINYGRAD_NLP_DATA` nor in the cache.

    Raises:
        ValueError: no data file has this name.
        NotADirectoryError: `TINYGRAD_NLP_DATA` is set to something that is not a folder.
    """
    _, expected = _entry(name)
    for path in _places(name):
        if path.is_file():
            with path.open("rb") as file:
                actual = hashlib.file_digest(file, "sha256").hexdigest()
            if actual != expected:
                warnings.warn(
                    f"{path} is not the file that {name} was when this version of tinygrad_nlp was made: "
                    f"its sha256 is {actual}, expected {expected}. It is used as it is.",
                    stacklevel=2,
                )
            return path
    return None


def fetch(name: str) -> Path:
    """The place of a data file on this machine, after a download where it is not here yet.

    Downloading needs pooch (`pip install "tinygrad_nlp[data]"`).

    Args:
        name: the file's name in the registry, with forward slashes, e.g. "dlfs2/date.txt".

    Returns:
        The path of the file.

    Raises:
        ValueError: no data file has this name.
        NotADirectoryError: `TINYGRAD_NLP_DATA` is set to something that is not a folder.
        FileNotFoundError: the file is not here and could not be downloaded; the message says why, and where to put it.
    """
    found = find(name)
    if found is not None:
        return found
    url, sha256 = _entry(name)
    cached = cache_folder() / name
    try:
        import pooch

        pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=cached.name, path=cached.parent)
    # ValueError: what was downloaded has another hash. OSError: no network, no such page, no place to write.
    except (ImportError, OSError, ValueError) as error:
        reason = 'pooch is not installed (pip install "tinygrad_nlp[data]")'
        if not isinstance(error, ImportError):
            reason = f"{type(error).__name__}: {error}"
        places = "".join(f"\n    {place}" for place in _places(name))
        raise FileNotFoundError(
            f"{name} is not on this machine and could not be downloaded.\n"
            f"  looked for at:{places}\n"
            f"  download from: {url}\n"
            f"  failed with: {reason}\n"
            f"To mend it: get the file from that address by other means and put it at\n"
            f"    {cached}\n"
            f"or set {VARIABLE} to a folder in which it lies as {name}."
        ) from error
    return cached


def _entry(name: str) -> tuple[str, str]:
    """The registry's (address, sha256) of a file."""
    if name not in REGISTRY:
        raise ValueError(f"no data file is called {name!r}; there are {', '.join(sorted(REGISTRY))}")
    return REGISTRY[name]


def _places(name: str) -> list[Path]:
    """Where a file may lie on this machine, the user's own folder first."""
    places = [cache_folder() / name]
    own = os.environ.get(VARIABLE)
    if own:
        folder = Path(own).expanduser()
        if not folder.is_dir():
            raise NotADirectoryError(
                f"{VARIABLE} is set to {own!r}, which is not a folder (seen from {Path.cwd()}). "
                f"Set it to the folder of your data files, or unset it."
            )
        places.insert(0, folder / name)
    return places
