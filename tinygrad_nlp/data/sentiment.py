"""SST-2: sentences from film reviews, and whether they speak well of the film (Socher et al., 2013).

The files are those of the binary task at the level of sentences: a row is a sentence in lower case, its words and marks
parted by spaces, a tab, and 1 (positive) or 0 (negative).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .files import fetch


@dataclass(frozen=True)
class LabelledTexts:
    """Texts with a class each.

    Attributes:
        texts: N strings, none of them empty.
        labels: their classes (N,), int64, from 0.
    """

    texts: list[str]
    labels: np.ndarray


def load_sst2() -> tuple[LabelledTexts, LabelledTexts, LabelledTexts]:
    """6,920 sentences to train on, 872 for validation and 1,821 for testing, about half of them positive.

    Returns:
        The three parts, each with labels 0 (negative) and 1 (positive).

    Raises:
        FileNotFoundError: the files are not here and could not be downloaded; the message says what to do.
        ValueError: a row has another form; the message names its place.
    """
    train, valid, test = (_read(fetch(f"sentiment_sst2/{part}.tsv")) for part in ("train", "dev", "test"))
    return train, valid, test


def _read(path: Path) -> LabelledTexts:
    texts, labels = [], []
    for number, row in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        text, _, label = row.rpartition("\t")
        if not text.strip() or label not in ("0", "1"):
            raise ValueError(f"{path}, line {number}: expected a sentence, a tab and 0 or 1, got {row[:80]!r}")
        texts.append(text)
        labels.append(int(label))
    return LabelledTexts(texts, np.array(labels, np.int64))
