"""From text to ids and back: tokens, vocabularies, and models that only count.

Nothing here knows Variables, and nothing knows where texts come from: `data` reads files.
"""

from .ngram import KneserNeyNGram, LaplaceNGram, NGram, ngram_counts, zipf_exponent
from .tokens import BPE, Characters, Tokenizer, Words
from .vocab import Vocab

__all__ = [
    "BPE", "Characters", "KneserNeyNGram", "LaplaceNGram", "NGram", "Tokenizer", "Vocab", "Words", "ngram_counts",
    "zipf_exponent",
]  # fmt: skip
