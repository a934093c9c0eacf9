"""Vocab: tokens and their ids."""

from __future__ import annotations

import collections
import json
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np


class Vocab:
    """The tokens that a model knows, with the ids 0, 1, 2, … (*Dive into Deep Learning*, 9.2.3).

    The ids go first to the reserved tokens, then to the others in the order of their first appearance; `<unk>`, which
    stands for all that is not known, comes last where it does not appear itself.

    Args:
        tokens: of a text, as a list or a stream of any length.
        min_freq: a token that appears less often is not known.
        reserved_tokens: known in any case, such as `<pad>`.
        unk: the token in the place of those not known; None refuses them.

    Attributes:
        tokens: the list of tokens; the one at position i has the id i.
        counts: how often each appeared, (V,), int64; that of `<unk>` with all those that are not known.
        unk: the id of `<unk>`, or None.
        dtype: the narrowest integer that holds every id.

    Raises:
        TypeError: a token is no string.
        ValueError: `min_freq` leaves tokens out, and `unk` is None.

    Example:
        >>> from tinygrad_nlp.text import Vocab
        >>> vocab = Vocab(["to", "be", "or", "not", "to", "be"], min_freq=2, reserved_tokens=["<pad>"])
        >>> vocab.tokens, vocab.counts.tolist()
        (['<pad>', 'to', 'be', '<unk>'], [0, 2, 2, 2])
        >>> vocab["be"], vocab.encode(["not", "to", "be"]), vocab.decode([3, 1])
        (2, array([3, 1, 2]), ['<unk>', 'to'])
    """

    def __init__(
        self,
        tokens: Iterable[str] = (),
        min_freq: int = 1,
        reserved_tokens: Iterable[str] = (),
        unk: str | None = "<unk>",
    ) -> None:
        if unk is None and min_freq > 1:
            raise ValueError(f"Vocab: with min_freq {min_freq} some tokens are not known; name an unk for them")
        try:
            found = collections.Counter(tokens)
        except TypeError as error:  # a token that is a list cannot be counted
            raise TypeError(
                f"Vocab: tokens must be a stream of strings, lists of tokens joined to one ({error})"
            ) from None
        known = dict.fromkeys(reserved_tokens)
        known.update((token, None) for token, count in found.items() if count >= min_freq or token == unk)
        if unk is not None:
            known.setdefault(unk)
        counts = [found[token] for token in known]
        if unk is not None:
            counts[list(known).index(unk)] += found.total() - sum(counts)
        self._set(list(known), counts, unk)

    def _set(self, tokens: list[str], counts: list[int], unk: str | None) -> None:
        for token in tokens:
            if not isinstance(token, str):
                raise TypeError(f"Vocab: a token must be a string, not {type(token).__name__} ({token!r})")
        self.tokens, self.counts = tokens, np.array(counts, np.int64)
        ids = {token: i for i, token in enumerate(tokens)}
        self.unk = None if unk is None else ids[unk]
        self._ids = ids if self.unk is None else _WithDefault(ids, self.unk)

    def __len__(self) -> int:
        return len(self.tokens)

    def __contains__(self, token: object) -> bool:
        return token in self._ids

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vocab) and (self.tokens, self.unk) == (other.tokens, other.unk)

    __hash__ = None  # type: ignore[assignment]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The narrowest integer that holds every id: a long text takes one to four bytes a token."""
        return np.min_scalar_type(max(len(self) - 1, 0))

    def __iter__(self) -> Iterator[str]:
        return iter(self.tokens)

    def __getitem__(self, token: str) -> int:
        """The id of one token.

        Raises:
            TypeError: it is no string.
            ValueError: it is not known, and there is no `<unk>`.
        """
        if not isinstance(token, str):
            raise TypeError(f"Vocab: a token is a string, not {type(token).__name__} ({token!r}); ids are for `decode`")
        return int(self.encode([token])[0])

    def encode(self, tokens: Iterable[str], dtype: Any = np.int64) -> np.ndarray:
        """The ids of tokens.

        Args:
            tokens: T of them, as a list (a string is a list of characters) or as a stream, of which nothing is kept.
            dtype: of the ids; `vocab.dtype` for a long text.

        Returns:
            Ids (T,).

        Raises:
            ValueError: a token is not known, and there is no `<unk>`.
        """
        try:
            return np.fromiter(map(self._ids.__getitem__, tokens), dtype)
        except KeyError as error:
            token = error.args[0]
            position = f" at position {tokens.index(token)}" if isinstance(tokens, Sequence) else ""
            known = ", ".join(map(repr, self.tokens))
            if all(len(token) == 1 for token in self.tokens):
                known = repr("".join(sorted(self.tokens)))
            raise ValueError(
                f"{token!r}{position} is not in the vocabulary; its {len(self)} tokens are "
                + (known if len(known) <= 200 else f"{known[:200]}…")
            ) from None

    def decode(self, ids: Iterable[int]) -> list[str]:
        """The tokens of ids.

        Args:
            ids: T of them, each from 0 to `len(vocab) - 1`.

        Returns:
            T tokens; a tokenizer's `join` makes a text of them.

        Raises:
            ValueError: an id is out of range.
        """
        ids = [int(i) for i in ids]
        for i in ids:
            if not 0 <= i < len(self):
                raise ValueError(f"the id {i} is not in the vocabulary, whose ids are 0 to {len(self) - 1}")
        return [self.tokens[i] for i in ids]

    # --- files and checkpoints ----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """What `from_state_dict` makes the same vocabulary of, in types that JSON knows."""
        unk = None if self.unk is None else self.tokens[self.unk]
        return {"tokens": list(self.tokens), "counts": self.counts.tolist(), "unk": unk}

    @classmethod
    def from_state_dict(cls, state: dict[str, Any]) -> Vocab:
        """The vocabulary that was saved.

        Args:
            state: what `state_dict` gave.

        Returns:
            A vocabulary with the same tokens, ids and counts.

        Raises:
            ValueError: it is not whole.
        """
        vocab = cls.__new__(cls)
        try:
            tokens, counts, unk = list(state["tokens"]), state["counts"], state["unk"]
            if len(set(tokens)) != len(tokens) or len(counts) != len(tokens) or (unk is not None and unk not in tokens):
                raise ValueError("tokens that are there twice, or counts of other tokens")
            vocab._set(tokens, counts, unk)
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"the state of a vocabulary is not whole: {error}") from None
        return vocab

    def save(self, path: str | Path) -> None:
        """Write it to a JSON file.

        Args:
            path: of the file.

        Raises:
            OSError: it cannot be written.
        """
        Path(path).write_text(json.dumps(self.state_dict()), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Vocab:
        """Read a file that `save` wrote.

        Args:
            path: of the file.

        Returns:
            The vocabulary.

        Raises:
            FileNotFoundError: there is none.
            ValueError: it is cut short, or of something else; the message names it.
        """
        try:
            return cls.from_state_dict(json.loads(Path(path).read_text(encoding="utf-8")))
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path} is no whole file of a vocabulary: {error}") from None


class _WithDefault(dict[str, int]):
    """A dictionary that gives a value for what it does not hold, without keeping it."""

    def __init__(self, items: dict[str, int], default: int) -> None:
        super().__init__(items)
        self.default = default

    def __missing__(self, key: str) -> int:
        return self.default
