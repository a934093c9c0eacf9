"""Decoding: against the loop that one would write by hand, against all sequences that there are, and against chance."""

import functools
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nlp as tn
from tinygrad_nlp import Variable
from tinygrad_nlp.autograd.modes import modes
from tinygrad_nlp.decoding import Hypothesis, Sampler, beam_search, greedy, sample, stream, take_rows

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


def test_a_length_below_zero_is_refused():
    for decode in (greedy, sample, lambda *arguments: next(stream(*arguments))):
        with pytest.raises(ValueError, match="decoding: length must be at least 0, not -1"):
            decode(counter, None, [0], -1)
    with pytest.raises(ValueError, match="beam_search: length must be at least 0, not -1"):
        beam_search(counter, None, [0], -1)


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


def test_a_prompt_is_read_before_anything_is_written():
    model = Walk(3)
    prompt = np.array([[1, 2, 3], [4, 0, 5]])
    ids = greedy(model, np.zeros(2, int), prompt, 4)
    assert [asked.tolist() for asked in model.asked[:3]] == prompt.T.tolist()
    state = (prompt[:, :2] + 1).sum(axis=1)
    assert np.array_equal(ids, greedy(Walk(3), state, prompt[:, 2], 4))


@pytest.mark.parametrize("start", [np.zeros((2, 0), int), np.zeros((1, 1, 1), int), 3])
def test_decoding_needs_ids_to_start_from(start):
    with pytest.raises(ValueError, match=r"decoding starts from ids \(N,\) or \(N, S\), at least one a row, not from"):
        greedy(counter, None, start, 3)


def test_scores_of_another_shape_and_nan_are_refused():
    with pytest.raises(ValueError, match=r"scores \(N, V\), N = 2, but they have the shape \(2, 1, 5\)"):
        greedy(lambda ids, state: (np.zeros((2, 1, 5)), state), None, [0, 1], 3)
    for decode in (greedy, sample, beam_search):
        with pytest.raises(FloatingPointError, match="hold NaN"):
            decode(lambda ids, state: (np.full((1, 5), np.nan), state), None, [0], 3)


# --- streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_gives_each_id_before_it_asks_for_the_next():
    model = Walk(4)
    ids = stream(model, np.zeros(1, int), [0], 5)
    written = []
    for steps in range(1, 6):
        written.append(next(ids))
        assert len(model.asked) == steps
    assert next(ids, None) is None
    assert np.array_equal(np.stack(written, axis=1), greedy(Walk(4), np.zeros(1, int), [0], 5))


def test_a_stream_without_a_length_ends_at_the_stop_or_never():
    assert [ids.tolist() for ids in stream(counter, None, [0, 2], stop=4)] == [[1, 3], [2, 4], [3, 4], [4, 4]]
    assert len(list(itertools.islice(stream(counter, None, [0]), 1000))) == 1000


def test_a_stream_records_again_between_its_ids():
    for _ in stream(Walk(1, as_variable=True), np.zeros(1, int), [0], 2):
        assert modes.recording


# --- sampling ---------------------------------------------------------------------------------------------------------

SCORES = st.lists(st.lists(st.floats(-9, 9), min_size=5, max_size=5), min_size=1, max_size=4).map(np.array)


@given(
    scores=SCORES,
    temperature=st.floats(0.1, 10),
    top_k=st.none() | st.integers(1, 7),
    top_p=st.none() | st.floats(0.01, 1),
)
def test_probabilities_are_those_of_the_most_probable_ids(scores, temperature, top_k, top_p):
    probabilities = Sampler(temperature, top_k, top_p).probabilities(scores.astype(np.float32))
    for row, p in zip(scores.astype(np.float32).astype(float), probabilities, strict=True):
        expected = np.exp(row / temperature - (row / temperature).max())
        order = sorted(range(5), key=lambda i: (-row[i], i))[:top_k]
        total, kept = expected[order].sum(), []
        for i in order:
            if top_p is not None and kept and expected[kept].sum() / total >= top_p - 1e-12:
                break
            kept.append(i)
        if top_p is not None and abs(expected[kept].sum() / total - top_p) < 1e-9:
            continue  # on the edge, rounding decides
        assert set(np.flatnonzero(p)) == set(kept)
        np.testing.assert_allclose(p[kept], expected[kept] / expected[kept].sum(), rtol=1e-9)


def test_ids_are_drawn_as_often_as_their_probabilities_say():
    scores = np.log(np.array([0.5, 0.25, 0.2, 0.05])).astype(np.float32)
    count = 40_000
    for settings, expected in [
        ({}, [0.5, 0.25, 0.2, 0.05]),
        ({"temperature": 0.5}, np.array([0.25, 0.0625, 0.04, 0.0025]) / 0.355),
        ({"top_k": 2}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_p": 0.7}, [2 / 3, 1 / 3, 0, 0]),
        ({"top_k": 3, "top_p": 0.5}, [1, 0, 0, 0]),
    ]:
        drawn = Sampler(**settings, seed=0)(np.tile(scores, (count, 1)))
        np.testing.assert_allclose(np.bincount(drawn, minlength=4) / count, expected, atol=0.01)
        assert set(drawn) == set(np.flatnonzero(expected))


def test_forbidden_and_impossible_ids_are_never_drawn():
    scores = np.array([[-np.inf, 0.0, -np.inf, -1e30, 0.0, -np.inf]])
    drawn = Sampler(seed=3)(np.repeat(scores, 5000, axis=0))
    assert set(drawn) == {1, 4}


@pytest.mark.parametrize("scores", [[-np.inf, -np.inf], [np.nan, 0.0], [np.inf, 0.0]])
def test_a_row_from_which_nothing_can_be_drawn_is_refused(scores):
    with pytest.raises(ValueError, match=r"^Sampler: a row of scores forbids every id, or holds NaN or inf$"):
        Sampler(top_k=1)(np.array([[0.0, 1.0], scores]))


def test_a_temperature_near_zero_is_greedy():
    scores = np.array([[1.0, 3.0, -np.inf, 2.0], [5e5, 0.0, 0.0, 0.0]])
    for temperature in (5e-324, 1e-300, 1e-3):
        assert Sampler(temperature)(scores).tolist() == [1, 0]


def test_equal_scores_are_cut_to_the_first_k():
    assert np.flatnonzero(Sampler(top_k=2).probabilities(np.zeros((1, 5)))).tolist() == [0, 1]


def test_the_same_seed_gives_the_same_text():
    start, state = np.array([0, 3]), np.zeros(2, int)

    def write(**settings):
        return sample(Walk(5), state, start, 30, **settings).tolist()

    assert write(seed=1) == write(seed=1) != write(seed=2)
    tn.manual_seed(1)
    first = write()
    tn.manual_seed(1)
    assert write() == first != write()
    assert write(seed=1, top_k=1) == greedy(Walk(5), state, start, 30).tolist()
    assert write(seed=1) == np.stack(list(stream(Walk(5), state, start, 30, choose=Sampler(seed=1))), axis=1).tolist()


def test_a_sampled_row_ends_at_its_stop():
    ids = sample(Walk(6), np.zeros(50, int), np.arange(50) % 6, 40, stop=2, seed=0)
    for row in ids.tolist():
        assert 2 in row
        assert set(row[row.index(2) :]) == {2}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0}, "temperature must be above 0, not 0; greedy"),
        ({"temperature": float("nan")}, "temperature must be above 0, not nan"),
        ({"top_k": 0}, "top_k must be at least 1, not 0"),
        ({"seed": -1}, "seed must be 0 or more, not -1"),
        ({"top_p": 0.0}, r"top_p must lie in \(0, 1\], not 0\.0"),
        ({"top_p": 1.5}, r"top_p must lie in \(0, 1\], not 1\.5"),
    ],
)
def test_a_sampler_refuses_settings_that_make_no_sense(settings, message):
    with pytest.raises(ValueError, match=message):
        Sampler(**settings)


# --- beams ------------------------------------------------------------------------------------------------------------


def all_sequences(model, first, state, length, stop, penalty):
    """Every sequence that ends at its stop or has the whole length, the best first."""
    found = []
    for ids in itertools.product(range(VOCABULARY), repeat=length):
        cut = ids.index(stop) + 1 if stop in ids else length
        if ids[cut:] != (0,) * (length - cut):
            continue  # the same beginning with another rest
        last, past, total = first, state, 0.0
        for token in ids[:cut]:
            scores = model.table[last, past % 7].astype(float)
            total += scores[token] - np.log(np.exp(scores).sum())
            past, last = past + last + 1, token
        found.append((total / ((5 + cut) / 6) ** penalty, total, ids[:cut]))
    return sorted(found, reverse=True)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("stop", "penalty"), [(None, 0.0), (2, 0.0), (2, 0.6), (2, 5.0)])
def test_a_wide_beam_finds_the_best_of_all_sequences(seed, stop, penalty):
    model = Walk(seed)
    start, state = np.array([0, 4]), np.array([1, 0])
    beams = beam_search(model, state, start, 4, VOCABULARY**3, stop, penalty)
    for first, past, found in zip(start, state, beams, strict=True):
        for mine, (score, log_p, ids) in zip(
            found[:20], all_sequences(model, first, past, 4, stop, penalty), strict=False
        ):
            assert mine.ids.tolist() == list(ids)
            assert mine.score == pytest.approx(score)
            assert mine.log_probability == pytest.approx(log_p)


@given(
    seed=st.integers(0, 50),
    start=st.lists(st.integers(0, VOCABULARY - 1), min_size=1, max_size=3),
    length=st.integers(0, 6),
    stop=st.none() | st.integers(0, VOCABULARY - 1),
    width=st.integers(1, 5),
    penalty=st.floats(0, 2),
)
def test_beams_are_ranked_distinct_and_independent_of_the_other_rows(seed, start, length, stop, width, penalty):
    state = np.arange(len(start))
    beams = beam_search(Walk(seed), state, start, length, width, stop, penalty)
    assert len(beams) == len(start)
    for row, (first, found) in enumerate(zip(start, beams, strict=True)):
        assert 1 <= len(found) <= width
        assert [h.score for h in found] == sorted((h.score for h in found), reverse=True)
        assert len({tuple(h.ids) for h in found}) == len(found)
        for h in found:
            assert isinstance(h, Hypothesis)
            assert h.ids.dtype == np.int64
            ended = stop is not None and len(h.ids) and h.ids[-1] == stop
            assert ended or len(h.ids) == length
            assert stop not in h.ids[:-1]
        alone = beam_search(Walk(seed), state[row : row + 1], [first], length, width, stop, penalty)[0]
        assert [h.ids.tolist() for h in alone] == [h.ids.tolist() for h in found]


@given(seed=st.integers(0, 50), length=st.integers(1, 8), as_variable=st.booleans())
def test_a_beam_of_one_without_a_stop_is_greedy(seed, length, as_variable):
    start, state = np.array([0, 5]), np.array([0, 2])
    ids = greedy(Walk(seed), state, start, length)
    beams = beam_search(Walk(seed, as_variable), state, start, length, width=1)
    assert [found[0].ids.tolist() for found in beams] == ids.tolist()


def test_a_length_penalty_lets_longer_sequences_win():
    def step(ids, state):  # to end at once has probability 0.4, to go on to 1 and end there 0.6 · 0.6
        return np.log(np.where(ids[:, None] == 0, [1e-9, 0.6, 0.4], [1e-9, 0.4, 0.6])), state

    ids = {a: beam_search(step, None, [0], 5, 3, stop=2, length_penalty=a)[0][0].ids.tolist() for a in (0.0, 3.0)}
    assert ids == {0.0: [2], 3.0: [1, 2]}


def test_a_beam_starts_behind_its_prompt_and_moves_the_state_with_it():
    prompt = np.array([[1, 2], [3, 4]])
    after = beam_search(Walk(1), np.zeros(2, int), prompt, 5, 3)
    same = beam_search(Walk(1), prompt[:, 0] + 1, prompt[:, 1], 5, 3)
    assert [[h.ids.tolist() for h in found] for found in after] == [[h.ids.tolist() for h in found] for found in same]

    class Layered(Walk):
        def __call__(self, ids, state):  # the state has a first axis of layers, as those of nn.LSTM
            scores, state = super().__call__(ids, state["h"][0])
            return scores, {"h": state[None], "nothing": None}

    state = {"h": np.zeros((1, 2), int), "nothing": None}
    layered = beam_search(Layered(1), state, prompt, 5, 3, select=functools.partial(take_rows, axis=1))
    assert [[h.ids.tolist() for h in found] for found in layered] == [[h.ids.tolist() for h in found] for found in same]


def test_rows_are_taken_of_states_of_any_form():
    from tinygrad_nlp.nn.recurrent import LSTMState

    rows = np.array([1, 1, 0])
    h = np.arange(6).reshape(1, 2, 3)
    state = take_rows(LSTMState(h, Variable(h * 1.0)), rows, axis=1)
    assert isinstance(state, LSTMState)
    assert np.array_equal(state.h, h[:, rows])
    assert np.array_equal(state.c.data, h[:, rows])
    assert take_rows([np.array([5, 6]), {"a": None, "b": (3,)}], np.array([1]))[1] == {"a": None, "b": (3,)}


def test_beam_search_refuses():
    with pytest.raises(ValueError, match="width must be at least 1, not 0"):
        beam_search(counter, None, [0], 3, 0)
    with pytest.raises(ValueError, match=r"length_penalty must not be negative, but is -1"):
        beam_search(counter, None, [0], 3, length_penalty=-1)


@pytest.mark.parametrize("rows", [1, 3])
def test_a_state_whose_batch_is_elsewhere_is_told_of_select(rows):
    """With one row its first beginnings can be taken; the layer then refuses three rows of one layer."""
    rnn = tn.nn.RNN(2, 4)
    table = np.eye(5, 2, dtype=np.float32)

    def step(ids, state):
        hs, state = rnn(table[ids][:, None], state)
        return hs.data[:, 0], state

    with pytest.raises((IndexError, ValueError)) as caught:
        beam_search(step, None, [0] * rows, 4, width=3)
    assert "`select`" in caught.value.__notes__[-1]
    with pytest.raises(ValueError, match="scores") as caught:
        beam_search(lambda ids, state: (np.zeros(3), None), None, [0] * rows, 4, width=3)
    assert not hasattr(caught.value, "__notes__")
    right = beam_search(step, None, [0] * rows, 4, 3, select=functools.partial(take_rows, axis=1))
    assert len(right) == rows
