"""From text to ids and back: tokens and vocabularies.

Nothing here knows Variables, and nothing knows where texts come from: `data` reads files.
"""

from .tokens import BPE, Characters, Tokenizer, Words
from .vocab import Vocab

__all__ = ["BPE", "Characters", "Tokenizer", "Vocab", "Words"]
