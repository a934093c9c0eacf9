"""Decoding: greedy against the loop that one would write by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nlp as tn
from tinygrad_nlp import Variable
from tinygrad_nlp.autograd.modes import modes
from tinygrad_nlp.decoding import greedy

VOCABULARY = 6


class Walk:
    """A made-up model: the scores depend on the last id and on a state, which counts the ids that came before."""

    def __init__(self, seed=0, as_variable=False):
        self.table = np.random.default_rng(seed).normal(size=(VOCABULARY, 7, VOCABULARY)).astype(np.float32)
        self.as_variable = as_variable
        self.asked = []

    def __call__(self, ids, state):
        self.asked.append(ids.copy())
        scores = self.table[ids, state % 7]
        return Variable(scores, requires_grad=True) * 1.0 if self.as_variable else scores, state + ids + 1

    def by_hand(self, first, length, stop):
        """One row, one id at a time."""
        written, last, state, over = [], first, first, False
        for _ in range(length):
            scores = self.table[last, state % 7].tolist()
            state += last + 1
            last = stop if over else scores.index(max(scores))
            over = over or last == stop
            written.append(last)
        return written


@given(
    seed=st.integers(0, 100),
    start=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=4),
    length=st.integers(0, 9),
    stop=st.none() | st.integers(0, VOCABULARY - 1),
    as_variable=st.booleans(),
)
def test_greedy_writes_what_a_loop_over_single_rows_writes(seed, start, length, stop, as_variable):
    model = Walk(seed, as_variable)
    ids = greedy(model, np.array(start), start, length, stop)
    expected = np.array([model.by_hand(first, length, stop) for first in start], int).reshape(len(start), length)
    steps = ids.shape[1]
    assert np.array_equal(ids, expected[:, :steps])
    assert (expected[:, steps:] == stop).all()  # greedy may end early, where every row is over
    assert ids.dtype == np.int64


def counter(ids, state):
    """0, 1, 2, 3, 4, 0, …"""
    return np.eye(5)[(ids + 1) % 5], state


def test_after_the_stop_symbol_a_row_is_filled_with_it():
    assert greedy(counter, None, [0, 2], 4, stop=4).tolist() == [[1, 2, 3, 4], [3, 4, 4, 4]]


def test_decoding_ends_where_all_rows_are_over():
    assert greedy(counter, None, [0, 2], 100, stop=4).tolist() == [[1, 2, 3, 4], [3, 4, 4, 4]]


def test_a_stop_symbol_may_be_the_start():
    assert greedy(counter, None, [4, 4], 6, stop=4).tolist() == [[0, 1, 2, 3, 4]] * 2


def test_without_a_stop_symbol_every_row_has_the_whole_length():
    assert greedy(counter, None, [3], 7).tolist() == [[4, 0, 1, 2, 3, 4, 0]]


@pytest.mark.parametrize("stop", [None, 2])
def test_of_length_zero_nothing_is_asked_and_nothing_written(stop):
    model = Walk()
    ids = greedy(model, np.zeros(3, int), [1, 2, 3], 0, stop)
    assert ids.shape == (3, 0)
    assert ids.dtype.kind == "i"
    assert model.asked == []


def test_scores_may_be_variables_or_arrays():
    start = np.array([0, 3, 5])
    arrays, variables = (greedy(Walk(1, as_variable), start, start, 8) for as_variable in (False, True))
    assert np.array_equal(arrays, variables)
    assert type(variables) is np.ndarray


def test_equal_scores_give_the_first_id():
    assert greedy(lambda ids, state: (np.zeros((len(ids), 4)), state), None, [3, 1], 2).tolist() == [[0, 0], [0, 0]]


def test_no_graph_is_recorded_and_recording_goes_on_afterwards():
    weight = Variable(np.eye(5, dtype=np.float32), requires_grad=True)
    seen = []

    def step(ids, state):
        scores = tn.embedding(ids, weight) + state
        seen.append((modes.recording, scores.requires_grad))
        return scores, scores

    greedy(step, Variable(np.zeros((2, 5), np.float32)), [0, 1], 3)
    assert seen == [(False, False)] * 3
    assert modes.recording


def test_recording_goes_on_after_a_model_that_fails():
    def step(ids, state):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        greedy(step, None, [0], 3)
    assert modes.recording


@pytest.mark.parametrize("stop", [None, 0, 3])
def test_a_row_does_not_depend_on_the_rows_beside_it(stop):
    start = np.array([0, 1, 2, 3, 4, 5])
    together = greedy(Walk(2), start, start, 10, stop)
    for row, first in zip(together, start, strict=True):
        alone = greedy(Walk(2), first[None], first[None], 10, stop)[0]
        assert np.array_equal(row[: len(alone)], alone)
        assert (row[len(alone) :] == stop).all()


def test_the_ids_that_come_before_are_left_as_they_are():
    start = np.array([0, 2])
    greedy(counter, None, start, 4, stop=4)
    assert start.tolist() == [0, 2]
