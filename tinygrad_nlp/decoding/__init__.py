"""Decoding: makes sequences with any model that has a step function."""

from .greedy import greedy

__all__ = ["greedy"]
