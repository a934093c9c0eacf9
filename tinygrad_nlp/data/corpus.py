"""Texts as ids: the Penn Treebank, *The Time Machine*, and any text file of a user, of any length.

A file is read and cut into tokens piece by piece, and ids are stored as narrow as the vocabulary allows: a text of
100 million characters takes 100 MB, and not the 800 MB of a list.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..text import BPE, Characters, Tokenizer, Vocab, Words
from .files import fetch


@dataclass(frozen=True)
class Corpus:
    """A text as ids, in three parts.

    Attributes:
        tokenizer: what cut it into tokens.
        vocab: the tokens of its training part.
        train: ids (L,), unsigned, of 8, 16 or 32 bits.
        valid: the part by which settings are chosen.
        test: the part by which the model is judged.
    """

    tokenizer: Tokenizer
    vocab: Vocab
    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def read_chunks(path: str | Path, size: int = 2**16) -> Iterator[str]:
    """Read a text file piece by piece; a piece ends at a line's end where it can, and never within a word.

    Args:
        path: a text in UTF-8; line ends of Windows become `\\n`.
        size: characters to read at a time.

    Yields:
        Pieces that make the whole text, one behind the other.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8; the message names it.
    """
    rest = ""
    with Path(path).open(encoding="utf-8-sig") as file:
        try:
            while piece := file.read(size):
                piece = rest + piece
                cut = piece.rfind("\n") + 1
                if not cut and (space := re.search(r"\s(?=\S*\Z)", piece)):
                    cut = space.end()
                cut = cut or len(piece)  # no such long word is one
                rest = piece[cut:]
                yield piece[:cut]
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} is no text in UTF-8: {error}") from None
    if rest:
        yield rest


def read_tokens(path: str | Path, tokenizer: Callable[[str], Iterable[str]]) -> Iterator[str]:
    """Read the tokens of a text file as a stream: `vocab.encode(read_tokens(path, tokenizer), vocab.dtype)`.

    Args:
        path: a text in UTF-8.
        tokenizer: from a piece of text to its tokens.

    Returns:
        An iterator over the tokens, of which only a piece's are in memory.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8; the message names it.
    """
    return itertools.chain.from_iterable(map(tokenizer, read_chunks(path)))


def load_text(path: str | Path, tokenizer: Tokenizer, min_freq: int = 1, held_out: float = 0.1) -> Corpus:
    """A text file of a user as a corpus.

    The vocabulary is that of the training part: what only the other parts hold is `<unk>` there. A BPE knows all.

    Args:
        path: a text in UTF-8.
        tokenizer: how to cut it.
        min_freq: a token that appears less often in the training part is `<unk>`; not for a BPE.
        held_out: the share of the tokens that is for validation, at the end but one, and again that for testing, at the
            end.

    Returns:
        The corpus.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not UTF-8, or has no tokens; `held_out` is not in [0, 0.5).
    """
    if isinstance(tokenizer, BPE):  # knows its tokens beforehand, and takes its time: one reading serves
        vocab = Vocab(reserved_tokens=tokenizer.tokens, unk=None)
        ids = vocab.encode(read_tokens(path, tokenizer), vocab.dtype)
        rest = _rest(_not_none(path, len(ids)), held_out)
    else:
        rest = _rest(total := _not_none(path, sum(len(tokenizer(chunk)) for chunk in read_chunks(path))), held_out)
        vocab = Vocab(itertools.islice(read_tokens(path, tokenizer), total - 2 * rest), min_freq)
        ids = vocab.encode(read_tokens(path, tokenizer), vocab.dtype)
    return _cut(ids, tokenizer, vocab, rest)


def load_ptb() -> Corpus:
    """The Penn Treebank as language models are measured on it (Mikolov et al., 2010): a line is a sentence.

    929,589 words to train on, 73,760 and 82,430 for validation and testing, a vocabulary of 10,000; all with `<eos>` at
    each line's end, and `<unk>` for rare words. Ids go by first appearance, as in *Deep Learning from Scratch 2*.

    Returns:
        The corpus.

    Raises:
        FileNotFoundError: the files are not here and could not be downloaded; the message says what to do.
    """
    tokenizer = Words()
    train, valid, test = (fetch(f"ptb/ptb.{part}.txt") for part in ("train", "valid", "test"))
    vocab = Vocab(read_tokens(train, tokenizer))
    parts = (vocab.encode(read_tokens(path, tokenizer), vocab.dtype) for path in (train, valid, test))
    return Corpus(tokenizer, vocab, *parts)


def load_time_machine(tokenizer: Tokenizer | None = None, held_out: float = 0.1) -> Corpus:
    """*The Time Machine* by H. G. Wells, in lower case without marks and figures (*Dive into Deep Learning*, 9.2).

    173,428 characters, of 27 and `<unk>`; or 32,775 words, of 4,579 and `<unk>`. The vocabulary is that of the whole
    book, as there.

    Args:
        tokenizer: how to cut it; `Characters()` by default.
        held_out: see `load_text`; with 0 the whole book is to train on.

    Returns:
        The corpus.

    Raises:
        FileNotFoundError: the file is not here and could not be downloaded; the message says what to do.
        ValueError: `held_out` is not in [0, 0.5).
    """
    tokenizer = tokenizer or Characters()
    text = fetch("timemachine/timemachine.txt").read_text(encoding="utf-8")
    tokens = tokenizer(re.sub("[^A-Za-z]+", " ", text).lower())
    vocab = Vocab(tokens)
    return _cut(vocab.encode(tokens, vocab.dtype), tokenizer, vocab, _rest(len(tokens), held_out))


def _not_none(path: str | Path, total: int) -> int:
    """The number of tokens, which must not be 0."""
    if not total:
        raise ValueError(f"{path} holds no text")
    return total


def _rest(total: int, held_out: float) -> int:
    """How many tokens are for validation, and how many for testing."""
    if not 0 <= held_out < 0.5:
        raise ValueError(f"held_out must lie in [0, 0.5), got {held_out}")
    return int(held_out * total)


def _cut(ids: np.ndarray, tokenizer: Tokenizer, vocab: Vocab, rest: int) -> Corpus:
    """The last `rest` ids are for testing, and those before them for validation."""
    train, valid, test = np.split(ids, [len(ids) - 2 * rest, len(ids) - rest])
    return Corpus(tokenizer, vocab, train, valid, test)
