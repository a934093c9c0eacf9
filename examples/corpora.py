"""Which text a language model is trained on: settings that the examples of language models share."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from examples.cli import refuse_idle
from tinygrad_nlp.data import Corpus, load_ptb, load_text, load_time_machine, read_chunks
from tinygrad_nlp.text import BPE, Characters, Tokenizer, Vocab, Words

HELD_OUT = 0.1  # of a text of the user for validation, and as much for testing


@dataclass
class Source:
    """A text, and how it is cut into tokens."""

    data: Literal["ptb", "time_machine"] = "ptb"
    """the Penn Treebank, or The Time Machine; downloaded where they are not at hand"""
    text: str = ""
    """a text file in UTF-8 to take in the place of --data; its last tenth is for testing, that before for validation"""
    kind: Literal["words", "characters", "bpe"] = "words"
    """what a token is: what lies between spaces, a character, or a piece of a word (bpe, for --text)"""
    min_freq: int = 1
    """a word or character of --text that occurs less often is <unk>"""
    bpe_size: int = 4000
    """how many pieces of words there are"""


def load_corpus(source: Source) -> Corpus:
    """Read the text.

    Raises:
        OSError: it is not there.
        ValueError: it is empty or not UTF-8, cannot be cut so, or a flag has no effect.
    """
    idle = {
        "data": (source.text, "with --text, which is read in its place"),
        "min_freq": (not source.text or source.kind == "bpe", "without the words or characters of --text"),
        "bpe_size": (source.kind != "bpe", "without --kind bpe"),
    }
    refuse_idle(type(source), vars(source), idle)
    if source.text:
        tokenizer: Tokenizer = Characters() if source.kind == "characters" else Words()
        if source.kind == "bpe":
            count = sum(1 for _ in read_chunks(source.text))
            to_train_on = max(1, int(count * (1 - 2 * HELD_OUT)))
            tokenizer = BPE.train(itertools.islice(read_chunks(source.text), to_train_on), source.bpe_size)
        return load_text(source.text, tokenizer, source.min_freq, HELD_OUT)
    if source.kind == "bpe" or (source.kind == "characters" and source.data == "ptb"):
        raise ValueError(f"--data {source.data} is not cut into {source.kind} here; --text FILE can be")
    if source.data == "ptb":
        return load_ptb()
    return load_time_machine(Characters() if source.kind == "characters" else Words())


def read(tokenizer: Tokenizer, vocab: Vocab, text: str) -> np.ndarray:
    """The ids of a text; says which tokens are not known.

    Raises:
        ValueError: one is not known, and there is no `<unk>`.
    """
    tokens = tokenizer(text)
    unknown = sorted({token for token in tokens if token not in vocab})
    ids = vocab.encode(tokens)
    if unknown:
        print(f"not in the vocabulary, and read as <unk>: {', '.join(unknown)}")
    return ids


def start_of(vocab: Vocab) -> int:
    """The id behind which a text begins: the end of a sentence or of a line, a space, or else the first token."""
    ends = ("<eos>", "\n", "Ċ", " ", "Ġ")  # Ċ and Ġ are BPE's
    return vocab[next((end for end in ends if end in vocab), vocab.tokens[0])]


def write(tokenizer: Tokenizer, vocab: Vocab, begun: np.ndarray, ids: Iterable[np.ndarray]) -> str:
    """Print a text token by token, as `decoding.stream` gives its ids.

    Returns:
        The whole text.
    """
    pieces, shown = [], ""
    held = vocab.decode(begun)  # the last token that is shown, which decides on a space, and those that are not
    for new in itertools.chain([None], ids):
        if new is not None:
            held += vocab.decode(new[:1])
        joined = tokenizer.join(held)
        if not joined.endswith("\ufffd"):  # else a character of which only some bytes are there
            pieces.append(joined[len(shown) :])
            print(pieces[-1], end="", flush=True)
            held = held[-1:]
            shown = tokenizer.join(held)
    pieces.append(tokenizer.join(held)[len(shown) :])
    print(pieces[-1])
    return "".join(pieces)
