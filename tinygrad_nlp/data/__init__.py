"""Data as NumPy arrays: made data, downloaded data, texts, padding, and batches that can be resumed.

Nothing here knows Variables: a training loop takes the arrays and hands them to its model.
"""

from .corpus import Corpus, load_ptb, load_text, load_time_machine, read_chunks, read_tokens
from .dates import DateData, load_dates, make_dates, read_dates
from .files import cache_folder, fetch, find
from .loader import DataLoader
from .padding import lengths_to_mask, pad_sequences
from .sentiment import LabelledTexts, load_sst2
from .spiral import spiral
from .windows import RandomWindows, SequentialWindows, windows

__all__ = [
    "Corpus",
    "DataLoader",
    "DateData",
    "LabelledTexts",
    "RandomWindows",
    "SequentialWindows",
    "cache_folder",
    "fetch",
    "find",
    "lengths_to_mask",
    "load_dates",
    "load_ptb",
    "load_sst2",
    "load_text",
    "load_time_machine",
    "make_dates",
    "pad_sequences",
    "read_chunks",
    "read_dates",
    "read_tokens",
    "spiral",
    "windows",
]
