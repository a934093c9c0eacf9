"""Decoding: makes sequences with any model that has a step function.

A step function is called with the last ids (N,) and a state, and returns the scores of the next id (N, V) and the new
state. The state may be anything; whoever needs a part of its rows says how to take them.
"""

from .beam import Hypothesis, beam_search, take_rows
from .generate import greedy, sample, stream
from .sampler import Sampler

__all__ = ["Hypothesis", "Sampler", "beam_search", "greedy", "sample", "stream", "take_rows"]
