"""Data as NumPy arrays: made data, downloaded data, padding, and batches that can be resumed.

Nothing here knows Variables: a training loop takes the arrays and hands them to its model.
"""

from tinygrad_nlp.data.dates import DateData, load_dates, make_dates, read_dates
from tinygrad_nlp.data.files import cache_folder, fetch, find
from tinygrad_nlp.data.loader import DataLoader
from tinygrad_nlp.data.padding import lengths_to_mask, pad_sequences
from tinygrad_nlp.data.spiral import spiral

__all__ = [
    "DataLoader",
    "DateData",
    "cache_folder",
    "fetch",
    "find",
    "lengths_to_mask",
    "load_dates",
    "make_dates",
    "pad_sequences",
    "read_dates",
    "spiral",
]
