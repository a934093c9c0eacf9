"""Data as NumPy arrays: made data, downloaded data, texts, padding, and batches that can be resumed.

Nothing here knows Variables: a training loop takes the arrays and hands them to its model.
"""

from tinygrad_nlp.data.corpus import Corpus, load_ptb, load_text, load_time_machine, read_chunks, read_tokens
from tinygrad_nlp.data.dates import DateData, load_dates, make_dates, read_dates
from tinygrad_nlp.data.files import cache_folder, fetch, find
from tinygrad_nlp.data.loader import DataLoader
from tinygrad_nlp.data.padding import lengths_to_mask, pad_sequences
from tinygrad_nlp.data.spiral import spiral
from tinygrad_nlp.data.windows import RandomWindows, SequentialWindows, windows

__all__ = [
    "Corpus",
    "DataLoader",
    "DateData",
    "RandomWindows",
    "SequentialWindows",
    "cache_folder",
    "fetch",
    "find",
    "lengths_to_mask",
    "load_dates",
    "load_ptb",
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
