"""The date task of sequence-to-sequence models: from "AUGUST 19, 2003" to "2003-08-19".

The task and its file are those of *Deep Learning from Scratch 2*, ch. 8, `dataset/date.txt`: 50,000 rows, each a
question of 29 characters (padded with spaces), then `_`, then the answer. Where the file is not at hand, rows of the
same kind are made here.
"""

from __future__ import annotations

import datetime
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from ..text import Vocab
from .files import fetch, find

# The longest question is "WEDNESDAY, SEPTEMBER 10, 1997".
QUESTION_LENGTH = 29
START = "_"

_ROW = re.compile(rf"([^{START}]{{1,{QUESTION_LENGTH}}}){START}(\d{{4}}-\d{{2}}-\d{{2}})")

# Written out, since strftime and the calendar module follow the user's locale.
_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")

# A case is drawn evenly from these four: Title half of the time, lower and UPPER a quarter each.
_CASES = (str, str, str.lower, str.upper)


@dataclass(frozen=True)
class DateData:
    """The date task as arrays of character ids.

    Attributes:
        vocab: the characters; others are refused.
        train: questions x (N, 29) and answers t (N, 11), int64. A question is padded with spaces at its end; an answer
            is `_YYYY-MM-DD`, whose `_` is the start symbol of the decoder.
        test: the same, for the rows that are kept for testing: a tenth of all.
        source: "book" or "made": which rows these are.
    """

    vocab: Vocab
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    source: str


def make_dates(n: int, seed: int) -> tuple[list[str], list[str]]:
    """Random dates, written in the ways of the book's file.

    The days are drawn evenly from 1970 to 2017. A question has, evenly, one of the forms `9/27/94`, `Sep 27, 1994`,
    `September 27, 1994` and `Tuesday, September 27, 1994`; the words are in Title case half of the time, and in lower
    and UPPER case a quarter each. The names are English in every locale.

    Args:
        n: the number of dates, 1 or more; they may repeat.
        seed: the seed of the random numbers, not negative.

    Returns:
        n questions, without padding, and their n answers, `YYYY-MM-DD`.

    Raises:
        ValueError: n is less than 1, or the seed negative.

    Example:
        >>> make_dates(2, seed=3)
        (['12/14/08', '2/10/74'], ['2008-12-14', '1974-02-10'])
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, got {n}")
    rng = np.random.default_rng(seed)
    first, last = datetime.date(1970, 1, 1).toordinal(), datetime.date(2017, 12, 31).toordinal()
    ordinals = rng.integers(first, last, size=n, endpoint=True).tolist()
    forms = rng.integers(4, size=n).tolist()
    cases = rng.integers(len(_CASES), size=n).tolist()

    days = [datetime.date.fromordinal(ordinal) for ordinal in ordinals]
    questions = [_CASES[case](_write(day, form)) for day, form, case in zip(days, forms, cases, strict=True)]
    return questions, [day.isoformat() for day in days]


def _write(day: datetime.date, form: int) -> str:
    """A day in one of the four forms, in Title case."""
    month = _MONTHS[day.month - 1]
    if form == 0:
        return f"{day.month}/{day.day}/{day.year % 100:02d}"
    if form == 1:
        return f"{month[:3]} {day.day}, {day.year}"
    if form == 2:
        return f"{month} {day.day}, {day.year}"
    return f"{_WEEKDAYS[day.weekday()]}, {month} {day.day}, {day.year}"


def read_dates(path: str | Path) -> tuple[list[str], list[str]]:
    """The rows of a file in the format of the book's `dataset/date.txt`.

    Args:
        path: a text in UTF-8; each row is a question of at most 29 characters, `_`, and `YYYY-MM-DD`.

    Returns:
        The questions, without padding, and their answers, without the `_`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8, has no rows, or a row has another format; the message names it, and the line.
    """
    questions, answers = [], []
    try:
        with Path(path).open(encoding="utf-8") as file:
            lines = file.readlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text in UTF-8: {error}") from None
    for number, line in enumerate(lines, start=1):
        row = _ROW.fullmatch(line.rstrip("\n"))
        if row is None:
            raise ValueError(
                f"{path}, line {number}: expected a question of 1 to {QUESTION_LENGTH} characters, "
                f"'{START}' and an answer YYYY-MM-DD, got {line!r}"
            )
        questions.append(row[1].rstrip(" "))
        answers.append(row[2])
    if not questions:
        raise ValueError(f"{path}, line 1: the file has no rows")
    return questions, answers


def load_dates(source: Literal["auto", "book", "made"] = "auto", n: int = 50_000, seed: int = 1984) -> DateData:
    """The date task, ready for a model: encoded, padded, and split as the book splits it.

    The book (*Deep Learning from Scratch 2*, ch. 7, `dataset/sequence.py`) shuffles the rows with NumPy's legacy
    generator, seed 1984, and keeps the last tenth for testing. With the book's file the arrays and the ids are the
    book's own: x (45000, 29) and t (45000, 11) for training, 5,000 rows for testing, and 59 characters. Rows repeat, so
    a few questions of the test rows are also in the training rows.

    Args:
        source: "book" takes the book's file, and downloads it where it is not on this machine; "made" makes the rows;
            "auto" takes the book's file where it is on this machine, and makes the rows otherwise. `DateData.source`
            says which it was.
        n: the number of rows to make, 1 or more; the book's file always has 50,000.
        seed: the seed of the shuffle, and of the rows that are made; not negative.

    Returns:
        The vocabulary, and the arrays for training and testing.

    Raises:
        ValueError: the source has another name, a row of the file has another format, or n or the seed is out of range.
        FileNotFoundError: the book's file was asked for and cannot be had; the message says what to do.
        NotADirectoryError: see `find`.

    Example:
        >>> data = load_dates("made", n=1000)
        >>> x, t = data.train
        >>> x.shape, t.shape, "".join(data.vocab.decode(x[0])), "".join(data.vocab.decode(t[0]))
        ((900, 29), (900, 11), 'Jun 24, 2013                 ', '_2013-06-24')
    """
    path: Path | None
    if source == "book":
        path = fetch("dlfs2/date.txt")
    elif source == "auto":
        path = find("dlfs2/date.txt")
    elif source == "made":
        path = None
    else:
        raise ValueError(f"source must be 'auto', 'book' or 'made', got {source!r}")
    questions, answers = make_dates(n, seed) if path is None else read_dates(path)

    # The vocabulary is built from whole rows, so that the ids come in the order that they have in the book.
    rows = [f"{q:<{QUESTION_LENGTH}}{START}{a}" for q, a in zip(questions, answers, strict=True)]
    text = "".join(rows)
    vocab = Vocab(text, unk=None)
    ids = vocab.encode(text).reshape(len(rows), -1)
    np.random.RandomState(seed).shuffle(ids)
    x, t = ids[:, :QUESTION_LENGTH].copy(), ids[:, QUESTION_LENGTH:].copy()
    split = len(ids) - len(ids) // 10
    return DateData(
        vocab=vocab,
        train=(x[:split], t[:split]),
        test=(x[split:], t[split:]),
        source="made" if path is None else "book",
    )
