"""Tokenizers: a text as a list of tokens (characters, words, pieces of words), and tokens as a text again."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, ClassVar


class Tokenizer:
    """Parts a text into tokens, and joins tokens to a text. A subclass names its `kind` and says how.

    Whatever takes a tokenizer only calls it: any function from a text to a list of strings, such as a morphological
    analyser's, will do where nothing is joined or saved.
    """

    kind: ClassVar[str]
    _kinds: ClassVar[dict[str, type[Tokenizer]]] = {}

    def __init_subclass__(cls) -> None:
        Tokenizer._kinds[cls.kind] = cls

    def __call__(self, text: str) -> list[str]:
        """Part a text.

        Args:
            text: any; it may be empty.

        Returns:
            Its tokens, in order.
        """
        raise NotImplementedError(f"{type(self).__name__}.__call__")

    def join(self, tokens: Iterable[str]) -> str:
        """Make a text of tokens.

        Args:
            tokens: as the tokenizer gives them.

        Returns:
            The text.
        """
        raise NotImplementedError(f"{type(self).__name__}.join")

    def state_dict(self) -> dict[str, Any]:
        """What `from_state_dict` makes the same tokenizer of: its kind and settings, in types that JSON knows."""
        return {"kind": self.kind}

    @staticmethod
    def from_state_dict(state: dict[str, Any]) -> Tokenizer:
        """The tokenizer that was saved.

        Args:
            state: what `state_dict` gave.

        Returns:
            A tokenizer of the kind that the state names.

        Raises:
            ValueError: no kind has this name, or settings are missing.
            ImportError: it is a BPE, and the library `tokenizers` is not installed.
        """
        settings = dict(state)
        kind = settings.pop("kind", None)
        if kind not in Tokenizer._kinds:
            raise ValueError(f"no tokenizer is called {kind!r}; there are {', '.join(sorted(Tokenizer._kinds))}")
        try:
            return Tokenizer._kinds[kind](**settings)
        except TypeError as error:
            raise ValueError(f"the state of a tokenizer ({kind}) is not whole: {error}") from None


class Characters(Tokenizer):
    """Each character is a token, line ends and spaces too.

    Example:
        >>> from tinygrad_nlp.text import Characters
        >>> characters = Characters()
        >>> characters("ab a"), characters.join(["ab", "c"])
        (['a', 'b', ' ', 'a'], 'abc')
    """

    kind = "characters"

    def __call__(self, text: str) -> list[str]:
        """A text's characters."""
        return list(text)

    def join(self, tokens: Iterable[str]) -> str:
        """One behind the other."""
        return "".join(tokens)


class Words(Tokenizer):
    """What lies between white space is a token, and each line end is the token `<eos>`.

    So a line is a sentence, as in the Penn Treebank's files for language models, where marks are words of their own
    ("do n't go ."). In other texts a mark belongs to the word before it.

    Args:
        eos: the token of a line end; None takes line ends for white space.

    Example:
        >>> from tinygrad_nlp.text import Words
        >>> words = Words()
        >>> words("no it was\\nn't\\n")
        ['no', 'it', 'was', '<eos>', "n't", '<eos>']
        >>> words.join(["a", "b", "<eos>", "c"])
        'a b\\nc'
    """

    kind = "words"

    def __init__(self, eos: str | None = "<eos>") -> None:
        self.eos = eos

    def __call__(self, text: str) -> list[str]:
        """A text's words."""
        return (text if self.eos is None else text.replace("\n", f" {self.eos} ")).split()

    def join(self, tokens: Iterable[str]) -> str:
        """With spaces between them, and a new line in the place of `eos`."""
        if self.eos is None:
            return " ".join(tokens)
        return re.sub(" ?\n ?", "\n", " ".join("\n" if token == self.eos else token for token in tokens))

    def state_dict(self) -> dict[str, Any]:
        """With the token of a line end."""
        return {"kind": self.kind, "eos": self.eos}


class BPE(Tokenizer):
    """Pieces of words, by byte pair encoding (Sennrich et al., 2016) on bytes, so that no text is unknown to it.

    The work is done by the library `tokenizers` (the extra `text`). Bytes are written as GPT-2 writes them (Radford et
    al., 2019): "Ġ" is a space.

    Args:
        model: what `state_dict` gives under this name; `BPE.train` makes one.

    Attributes:
        tokens: all pieces that there are, whether they occur or not; a vocabulary needs each of them.

    Raises:
        ImportError: `tokenizers` is not installed.
        ValueError: the model is none of that library.

    Example:
        >>> from tinygrad_nlp.text import BPE
        >>> bpe = BPE.train(["low lower lowest " * 10], vocab_size=260)  # doctest: +SKIP
        >>> bpe("lowest low"), bpe.join(bpe("lowest low"))  # doctest: +SKIP
        (['low', 'e', 's', 't', 'Ġlow'], 'lowest low')
    """

    kind = "bpe"

    def __init__(self, model: str) -> None:
        try:
            self._tokenizer = _tokenizers().Tokenizer.from_str(model)
        except ImportError:
            raise
        except Exception as error:  # the library raises nothing more special
            raise ValueError(f"this is no model of a BPE: {error}") from None
        ids = self._tokenizer.get_vocab()
        self.tokens = sorted(ids, key=ids.__getitem__)

    @classmethod
    def train(cls, texts: Iterable[str], vocab_size: int, min_freq: int = 2) -> BPE:
        """Find the pieces: from the 256 bytes, the most frequent pair of pieces becomes a piece, again and again.

        Args:
            texts: any number of pieces of text; a line is never joined to the next.
            vocab_size: how many pieces there shall be, 256 or more; a small text may give fewer.
            min_freq: a pair that occurs less often stays two.

        Returns:
            The tokenizer.

        Raises:
            ImportError: `tokenizers` is not installed.
            ValueError: `vocab_size` is less than 256.
        """
        if vocab_size < 256:
            raise ValueError(f"BPE: vocab_size must be at least 256, the number of bytes, not {vocab_size}")
        library = _tokenizers()
        tokenizer = library.Tokenizer(library.models.BPE())
        tokenizer.pre_tokenizer = library.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = library.decoders.ByteLevel()
        trainer = library.trainers.BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=min_freq,
            initial_alphabet=library.pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(texts, trainer)
        return cls(tokenizer.to_str())

    def __call__(self, text: str) -> list[str]:
        """A text's pieces."""
        return self._tokenizer.encode(text).tokens

    def join(self, tokens: Iterable[str]) -> str:
        """The text, with "\ufffd" where bytes do not make a character (yet)."""
        return self._tokenizer.decoder.decode(list(tokens))

    def state_dict(self) -> dict[str, Any]:
        """With the pieces and the merges, as one string."""
        return {"kind": self.kind, "model": self._tokenizer.to_str()}


def _tokenizers() -> Any:
    try:
        import tokenizers
    except ImportError as error:
        raise ImportError('BPE needs the library tokenizers: pip install "tinygrad_nlp[text]"') from error
    return tokenizers
