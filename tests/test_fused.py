"""Every fused kernel equals its definition: values, gradients and second derivatives, for every shape and mask."""

import itertools
import tracemalloc
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import tinygrad_nlp as tn
from tests.op_table import arrays
from tinygrad_nlp import Variable
from tinygrad_nlp.autograd import Fused, engine
from tinygrad_nlp.nn import functional as F
from tinygrad_nlp.nn import fused
from tinygrad_nlp.nn.fused import attention, linear_cross_entropy, lstm, recurrence
from tinygrad_nlp.threads import slices


@dataclass(frozen=True)
class Case:
    """A kernel with its settings, its inputs, into how many parts it cuts the batch, and whether these are large."""

    kernel: Callable[[], Fused]
    arrays: tuple[np.ndarray, ...]
    parts: int = 1
    large: bool = False

    def run(self, *inputs):
        """The outputs of the kernel, always a tuple."""
        return several(self.kernel()(*inputs))

    def define(self, *inputs):
        """The outputs of the plain formula."""
        return several(self.kernel().definition(*inputs))

    def as_dtype(self, dtype):
        return replace(self, arrays=tuple(x.astype(dtype) for x in self.arrays))


def several(ys):
    return ys if isinstance(ys, tuple) else (ys,)


SIZES = st.integers(1, 4)  # 1 is where axes are dropped or broadcast by mistake
PARTS = st.integers(1, 3)


def masks(*shape):
    """No mask, or any: rows of False, steps that nobody takes, holes and all."""
    blank = st.sampled_from([np.ones(shape, bool), np.zeros(shape, bool)])
    return st.none() | blank | hnp.arrays(bool, shape, elements=st.booleans())


@st.composite
def recurrences(draw, function, gates, states=1, peepholes=0, **options):
    """Masks, directions, dropout of h, with biases or without."""
    n, steps, features, hidden = (draw(SIZES) for _ in range(4))
    dropout = hnp.arrays(np.float32, (n, hidden), elements=st.sampled_from([0.0, 2.0]))
    settings = {
        "mask": draw(masks(n, steps)), "reverse": draw(st.booleans()), "recurrent_mask": draw(st.none() | dropout),
    }  # fmt: skip
    weights = [(gates * hidden, features), (gates * hidden, hidden)]
    weights += [(gates * hidden,)] * 2 if peepholes or draw(st.booleans()) else []
    weights += [(peepholes * hidden,)] if peepholes else []
    inputs = tuple(draw(arrays(shape)) for shape in [(n, steps, features), *[(n, hidden)] * states, *weights])
    return Case(lambda: function(**settings, **options), inputs, draw(PARTS), draw(st.booleans()))


@st.composite
def linear_cross_entropies(draw):
    leading = draw(st.sampled_from([(), (1,), (5,), (2, 3), (0,)]))
    classes, features, ignored = draw(SIZES), draw(SIZES), draw(st.sampled_from([-100, 0]))
    ids = hnp.arrays(np.int64, int(np.prod(leading)), elements=st.sampled_from([ignored, *range(classes)]))
    targets = draw(ids)
    shapes = [(*leading, features), (classes, features), (classes,)][: draw(st.integers(2, 3))]
    inputs = tuple(draw(arrays(shape)) for shape in shapes)
    return Case(lambda: fused.LinearCrossEntropy(targets, ignored), inputs, draw(PARTS), draw(st.booleans()))


RECURRENCES = {
    "rnn": recurrences(fused.RNN, 1),
    "rnn_relu": recurrences(fused.RNN, 1, nonlinearity="relu"),
    "lstm": recurrences(fused.LSTM, 4, states=2),
    "lstm_peepholes": recurrences(fused.LSTM, 4, states=2, peepholes=3),
    "lstm_no_forget_gate": recurrences(fused.LSTM, 3, states=2, forget_gate=False),
    "lstm_no_forget_gate_peepholes": recurrences(fused.LSTM, 3, states=2, peepholes=2, forget_gate=False),
    "gru": recurrences(fused.GRU, 3),
    "gru_reset_before": recurrences(fused.GRU, 3, reset_after=False),
}


@st.composite
def attentions(draw):
    leading = draw(st.sampled_from([(), (1,), (3,), (2, 2)]))
    queries, keys, width, value_width = (draw(SIZES) for _ in range(4))
    shapes = (*leading, queries, width), (*leading, keys, width), (*leading, keys, value_width)
    mask, scale = draw(masks(*leading, queries, keys)), draw(st.sampled_from([1.0, 0.5, -2.0, 0.0]))
    return Case(lambda: fused.Attention(scale, mask), tuple(draw(arrays(shape)) for shape in shapes), draw(PARTS))


@st.composite
def cross_entropies(draw):
    leading = draw(st.sampled_from([(), (1,), (5,), (2, 3)]))
    classes, ignored = draw(SIZES), draw(st.sampled_from([-100, 0]))
    ids = hnp.arrays(np.int64, int(np.prod(leading)), elements=st.sampled_from([ignored, *range(classes)]))
    targets = draw(ids)
    return Case(lambda: fused.CrossEntropy(targets, ignored), (draw(arrays((*leading, classes))),))


@st.composite
def layer_norms(draw):
    leading, normalized = draw(st.sampled_from([(), (1,), (3,), (2, 3)])), draw(st.sampled_from([(1,), (4,), (2, 3)]))
    shapes = [(*leading, *normalized), normalized, normalized][: draw(st.integers(1, 3))]
    # ε is large, for x whose elements are all but equal would be blown up.
    return Case(lambda: fused.LayerNorm(len(normalized), 0.1), tuple(draw(arrays(shape)) for shape in shapes))


def is_recurrence(case):
    return isinstance(case.kernel(), recurrence.Recurrence)


KERNELS = {
    **RECURRENCES,
    "attention": attentions(),
    "cross_entropy": cross_entropies(),
    "layer_norm": layer_norms(),
    "linear_cross_entropy": linear_cross_entropies(),
}
each_kernel = pytest.mark.parametrize("cases", KERNELS.values(), ids=KERNELS)


@contextmanager
def cut(parts, large=False):
    """Whatever the sizes, the kernels cut a batch into so many parts, small or large, and run them in threads."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(recurrence, "_LARGE_BATCH", 0 if large else 64)
        patch.setattr(recurrence, "_LARGE_WEIGHT", 0 if large else 2**17)
        patch.setattr(recurrence, "_NARROW", 0 if large and parts == 1 else 128)
        patch.setattr(recurrence, "count", lambda: parts)
        patch.setattr(lstm, "_AT_ONCE", 1 if large else 8)
        patch.setattr(linear_cross_entropy, "_BLOCK", 1)
        patch.setattr(linear_cross_entropy, "_IN_CACHE", 1)
        patch.setattr(linear_cross_entropy, "_FEWEST_ROWS", 2)
        patch.setattr(linear_cross_entropy, "_MANY_WORDS", 1 if large else 1000)
        patch.setattr(linear_cross_entropy, "_FEW_WORDS", 0 if large else 256)
        patch.setattr(linear_cross_entropy, "_WORK", 1)
        patch.setattr(linear_cross_entropy, "count", lambda: parts)
        patch.setattr(recurrence, "number_of_parts", lambda x, hidden: max(1, min(parts, len(x))))
        patch.setattr(
            attention,
            "_parts",
            lambda query, key: [slice(None)] if query.ndim < 3 else slices(len(query), min(parts, len(query))),
        )
        yield


def leaves(arrays):
    return [Variable(x, requires_grad=True) for x in arrays]


def normal_like(arrays, seed=1):
    rng = np.random.default_rng(seed)
    return [rng.standard_normal(x.shape).astype(x.dtype) for x in arrays]


def dense(gradients, inputs):
    """Zeros in the place of None: no path leads there."""
    return [np.zeros(x.shape) if g is None else g for g, x in zip(gradients, inputs, strict=True)]


def assert_all_close(actual, desired, rtol=1e-9, atol=1e-11):
    assert len(actual) == len(desired)
    for a, d in zip(actual, desired, strict=True):
        a, d = (x.data if isinstance(x, Variable) else x for x in (a, d))
        np.testing.assert_allclose(a, d, rtol=rtol, atol=atol)


@pytest.mark.parametrize("classes", [100, 3000])
def test_losses_of_float16_have_the_gradients_of_float32(classes):
    """Sums of 3,000 exponentials, times 700 rows, are more than float16 holds, and a 700th of one is less."""
    rng = np.random.default_rng(0)
    targets = rng.integers(classes, size=700)
    arrays = [rng.standard_normal(shape).astype(np.float16) / 4 for shape in ((700, 4), (classes, 4), (classes,))]
    logits = rng.standard_normal((700, classes)).astype(np.float16) / 4
    losses = {
        "cross_entropy": (lambda x: fused.CrossEntropy(targets, -100)(x), [logits]),
        "linear": (lambda *given: fused.LinearCrossEntropy(targets, -100)(*given), arrays),
    }
    for loss, inputs in losses.values():
        halves, wholes = leaves(inputs), leaves([x.astype(np.float32) for x in inputs])
        half, whole = loss(*halves), loss(*wholes)
        half.backward()
        whole.backward()
        assert half.dtype == np.float16
        np.testing.assert_allclose(half.data, whole.data, rtol=1e-3)
        for ours, theirs in zip(halves, wholes, strict=True):
            assert ours.grad.dtype == np.float16
            np.testing.assert_allclose(ours.grad, theirs.grad, rtol=2e-3, atol=1e-7)


# --- values and gradients ---------------------------------------------------------------------------------------------


@each_kernel
@given(data=st.data())
def test_values_are_those_of_the_definition(cases, data):
    case = data.draw(cases)
    with cut(case.parts, case.large):
        assert_all_close(case.run(*leaves(case.arrays)), case.define(*leaves(case.arrays)))


@each_kernel
@given(data=st.data())
def test_without_a_graph_the_values_are_the_same_to_the_last_bit(cases, data):
    case = data.draw(cases)
    with cut(case.parts, case.large):
        recorded = case.run(*leaves(case.arrays))
        with tn.no_grad():
            unrecorded = case.run(*leaves(case.arrays))
        plain = case.run(*case.arrays)  # arrays in, arrays out
    assert not any(y.requires_grad for y in unrecorded)
    assert_all_close(unrecorded, plain, rtol=0, atol=0)
    if is_recurrence(case) and case.arrays[0].shape[1] == 1:  # a single step is taken by the formula
        assert_all_close(plain, recorded)
    else:
        assert_all_close(plain, recorded, rtol=0, atol=0)


@pytest.mark.parametrize("function", [fused.RNN, fused.LSTM, fused.GRU])
def test_the_outputs_of_a_single_step_share_no_memory(function):
    """As those of a whole window: who changes the output does not change the state."""
    states, gates = (2, 4) if function is fused.LSTM else (1, 3 if function is fused.GRU else 1)
    rng = np.random.default_rng(0)
    shapes = [(2, 1, 3), *[(2, 4)] * states, (4 * gates, 3), (4 * gates, 4)]
    for mask in (None, np.ones((2, 1), bool)):
        outputs = function(mask)(*(rng.standard_normal(shape) for shape in shapes))
        assert outputs[0].shape == (2, 1, 4)
        assert not any(np.shares_memory(a, b) for a, b in itertools.combinations(outputs, 2))


@each_kernel
@settings(max_examples=100)
@given(data=st.data())
def test_gradients_are_those_of_the_definition_for_any_inputs_and_outputs(cases, data):
    """Any of the inputs may be constants, any of the outputs may be left unused."""
    case = data.draw(cases)
    wanted = data.draw(st.sets(st.sampled_from(range(len(case.arrays))), min_size=1), label="wanted")
    as_variables = data.draw(st.booleans(), label="constants are Variables")

    def gradients(function):
        constant = Variable if as_variables else np.asarray
        inputs = [Variable(x, requires_grad=True) if i in wanted else constant(x) for i, x in enumerate(case.arrays)]
        outputs = function(*inputs)
        targets = [inputs[i] for i in sorted(wanted)]
        seeds = normal_like(outputs)
        pairs = [(outputs[i], seeds[i]) for i in used if isinstance(outputs[i], Variable)]
        if not pairs:  # plain arrays, which depend on constants only
            return dense([None] * len(targets), targets)
        ys, weights = zip(*pairs, strict=True)
        return dense(tn.grad(ys, targets, weights, allow_unused=True), targets)

    used = sorted(data.draw(st.sets(st.sampled_from(range(len(case.run(*case.arrays)))), min_size=1), label="used"))
    with cut(case.parts, case.large):
        assert_all_close(gradients(case.run), gradients(case.define))


@each_kernel
@given(data=st.data())
def test_first_and_second_derivatives_are_right(cases, data):
    case = data.draw(cases)
    with cut(case.parts, case.large):
        tn.check_grads(case.run, case.arrays, order=2, rtol=1e-5, atol=1e-7)


@each_kernel
@given(data=st.data())
def test_gradients_of_gradients_are_those_of_the_definition(cases, data):
    case = data.draw(cases)

    def first_and_second(function):
        inputs = leaves(case.arrays)
        outputs = function(*inputs)
        seeds = leaves(normal_like(outputs))
        first = tn.grad(outputs, inputs, seeds, create_graph=True)
        second = tn.grad(first, [*inputs, *seeds], normal_like(first, seed=2), allow_unused=True)
        return [*first, *dense(second, [*inputs, *seeds])]

    with cut(case.parts, case.large):
        assert_all_close(first_and_second(case.run), first_and_second(case.define))


@each_kernel
@given(data=st.data())
def test_a_recorded_backward_gives_the_gradients_of_the_kernel(cases, data):
    case = data.draw(cases)
    with cut(case.parts, case.large):
        inputs = leaves(case.arrays)
        outputs = case.run(*inputs)
        seeds = normal_like(outputs)
        plain = tn.grad(outputs, inputs, seeds, retain_graph=True)
        assert_all_close(tn.grad(outputs, inputs, seeds, create_graph=True), plain)


@pytest.mark.parametrize("wanted", [{0}, {1}, {2}, {0, 1}, {0, 2}, {1, 2}])
def test_a_recorded_backward_may_leave_constants_out(wanted):
    arrays = attention_inputs()

    def gradients(create_graph):
        inputs = [Variable(x, requires_grad=True) if i in wanted else x for i, x in enumerate(arrays)]
        context, _ = fused.Attention(0.5)(*inputs)
        return tn.grad(context.sum(), [inputs[i] for i in sorted(wanted)], create_graph=create_graph)

    assert_all_close(gradients(create_graph=True), gradients(create_graph=False))


# --- arrays -----------------------------------------------------------------------------------------------------------


@each_kernel
@given(data=st.data())
def test_float32_stays_float32_and_float64_float64(cases, data):
    case = data.draw(cases)
    with cut(case.parts, case.large):
        outputs_and_gradients = {}
        for dtype in (np.float32, np.float64):
            inputs = leaves(case.as_dtype(dtype).arrays)
            outputs = case.run(*inputs)
            seeds = [seed.astype(dtype) for seed in normal_like(y.data.astype(float) for y in outputs)]
            results = [*(y.data for y in outputs), *tn.grad(outputs, inputs, seeds)]
            assert {x.dtype for x in results} == {np.dtype(dtype)}
            outputs_and_gradients[dtype] = results
    assert_all_close(*outputs_and_gradients.values(), rtol=1e-3, atol=1e-4)


@each_kernel
@given(data=st.data())
def test_inputs_and_incoming_gradients_are_not_written_to(cases, data):
    case = data.draw(cases)
    before = [x.copy() for x in case.arrays]
    for x in case.arrays:
        x.flags.writeable = False
    with cut(case.parts, case.large):
        inputs = leaves(case.arrays)
        outputs = case.run(*inputs)
        seeds = normal_like(outputs)
        for array in (*seeds, *(y.data for y in outputs if y.ndim)):
            array.flags.writeable = False
        tn.grad(outputs, inputs, seeds, retain_graph=True)
        tn.grad(outputs, inputs, seeds, create_graph=True)
    assert_all_close(case.arrays, before, rtol=0, atol=0)


@each_kernel
@given(data=st.data())
def test_every_gradient_is_memory_of_its_own(cases, data):
    case = data.draw(cases)
    with cut(case.parts, case.large), pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "_CHEAP_TO_COPY", 0, raising=False)  # small arrays, too, are copied only where needed
        inputs = leaves(case.arrays)
        outputs = case.run(*inputs)
        for y, seed in zip(outputs, seeds := normal_like(outputs), strict=True):
            y.backward(seed, retain_graph=True)
        others = [*case.arrays, *seeds, *(y.data for y in outputs)]
        gradients = [x.grad for x in inputs]
        for a, b in (*itertools.combinations(gradients, 2), *itertools.product(gradients, others)):
            assert not np.shares_memory(a, b)
        after = [g.copy() for g in gradients]
        for gradient in gradients:
            gradient[...] = np.nan  # what the user does to his gradients does no harm to the graph
        again = tn.grad(outputs, inputs, seeds)
    assert_all_close(again, after)


@each_kernel
@given(data=st.data())
def test_a_second_backward_through_a_kept_graph_gives_the_same(cases, data):
    case = data.draw(cases)
    with cut(case.parts, case.large):
        inputs = leaves(case.arrays)
        outputs = case.run(*inputs)
        seeds = normal_like(outputs)
        first = tn.grad(outputs, inputs, seeds, retain_graph=True)
        assert_all_close(tn.grad(outputs, inputs, seeds, retain_graph=True), first, rtol=0, atol=0)
        tn.grad(outputs, inputs, seeds)
        with pytest.raises(RuntimeError, match="a second time"):
            tn.grad(outputs, inputs, seeds)


# --- LSTM -------------------------------------------------------------------------------------------------------------


def lstm_inputs(n, steps, features=3, hidden=2, dtype=np.float64):
    rng = np.random.default_rng(0)
    shapes = (n, steps, features), (n, hidden), (n, hidden), (4 * hidden, features), (4 * hidden, hidden)
    return [rng.standard_normal(shape).astype(dtype) for shape in (*shapes, (4 * hidden,), (4 * hidden,))]


def test_a_step_that_is_masked_out_leaves_the_state_and_its_input_has_no_gradient():
    mask = np.array([[True, False, True], [False, False, False]])
    inputs = leaves(lstm_inputs(n=2, steps=3))
    x, h, c = inputs[:3]
    hs, h_last, c_last = fused.LSTM(mask)(*inputs)
    np.testing.assert_array_equal(hs.data[0, 1], hs.data[0, 0])
    np.testing.assert_array_equal(hs.data[1], np.stack([h.data[1]] * 3))
    np.testing.assert_array_equal(h_last.data[1], h.data[1])
    np.testing.assert_array_equal(c_last.data[1], c.data[1])
    (hs.sum() + h_last.sum() + c_last.sum()).backward()
    assert (x.grad[~mask] == 0).all()
    assert (x.grad[mask] != 0).all()
    np.testing.assert_array_equal(h.grad[1], [4, 4])  # of three outputs and the last state
    np.testing.assert_array_equal(c.grad[1], [1, 1])


@pytest.mark.parametrize("padding", [1e4, np.inf, np.nan])
@pytest.mark.parametrize("make", [fused.RNN, fused.LSTM, fused.GRU])
@pytest.mark.parametrize("way", ["kernel", "definition"])
def test_what_lies_under_the_mask_does_not_matter(make, way, padding):
    mask = np.array([[True, True, False], [True, False, False]])
    gates, states = {fused.RNN: (1, 1), fused.LSTM: (4, 2), fused.GRU: (3, 1)}[make]
    shapes = (2, 3, 3), *[(2, 2)] * states, (2 * gates, 3), (2 * gates, 2), (2 * gates,), (2 * gates,)
    results = []
    for under in (0.0, padding):
        rng = np.random.default_rng(0)
        inputs = leaves([rng.standard_normal(shape) for shape in shapes])
        inputs[0].data[~mask] = under
        function = make(mask)
        outputs = (function if way == "kernel" else function.definition)(*inputs)
        results.append([*(y.data for y in outputs), *tn.grad(outputs, inputs, normal_like(outputs))])
    assert_all_close(*results, rtol=0, atol=0)


def test_a_sequence_in_two_pieces_is_the_whole_sequence():
    x, h, c, *weights = lstm_inputs(n=2, steps=5)
    hs, h_last, c_last = fused.LSTM()(x, h, c, *weights)
    first, h_mid, c_mid = fused.LSTM()(x[:, :2], h, c, *weights)
    second, h_end, c_end = fused.LSTM()(x[:, 2:], h_mid, c_mid, *weights)
    assert_all_close([np.concatenate((first, second), axis=1), h_end, c_end], [hs, h_last, c_last])


def test_extreme_gates_stay_finite():
    x, h, c, *weights = lstm_inputs(n=2, steps=3, dtype=np.float32)
    inputs = leaves([x * np.float32(1e4), h, c, *weights])
    outputs = fused.LSTM()(*inputs)
    gradients = tn.grad(outputs, inputs, normal_like(outputs))
    for array in (*(y.data for y in outputs), *gradients):
        assert np.isfinite(array).all()


def test_a_batch_of_nothing_has_gradients_of_nothing():
    inputs = leaves(lstm_inputs(n=0, steps=2))
    outputs = fused.LSTM()(*inputs)
    assert [y.shape for y in outputs] == [(0, 2, 2), (0, 2), (0, 2)]
    for x, gradient in zip(inputs, tn.grad(outputs, inputs, normal_like(outputs)), strict=True):
        np.testing.assert_array_equal(gradient, np.zeros(x.shape))


def test_a_large_batch_is_cut_into_one_part_per_core(monkeypatch):
    monkeypatch.setattr(recurrence, "count", lambda: 3)
    for (n, hidden), parts in {(96, 128): 3, (64, 128): 2, (500, 8): 1, (33, 500): 1, (1, 9999): 1}.items():
        assert recurrence.number_of_parts(np.empty((n, 1, 1)), hidden) == parts
    mask = np.random.default_rng(0).random((96, 3)) < 0.8
    inputs = leaves(lstm_inputs(n=96, steps=3, hidden=128, dtype=np.float64))
    case = Case(lambda: fused.LSTM(mask), ())
    results = []
    for function in (case.run, case.define):
        outputs = function(*inputs)
        results.append([*outputs, *tn.grad(outputs, inputs, normal_like(outputs))])
    assert_all_close(*results, atol=1e-8)


@pytest.mark.usefixtures("blas_of_two_threads")
@pytest.mark.parametrize("function", [fused.RNN, fused.LSTM, fused.GRU])
@pytest.mark.parametrize(("hidden", "features"), [(32, 28), (64, 3)])
def test_batches_of_real_size_have_the_gradients_of_the_definition(function, hidden, features):
    """Of letters, and of few numbers, in float32: products of parts, in pieces, and of all steps at once."""
    states, gates = {fused.RNN: (1, 1), fused.LSTM: (2, 4), fused.GRU: (1, 3)}[function]
    rng, n, wide = np.random.default_rng(0), 300, gates * hidden
    shapes = [(n, 4, features), *[(n, hidden)] * states, (wide, features), (wide, hidden), (wide,), (wide,)]
    arrays = [rng.standard_normal(shape, np.float32) / 4 for shape in shapes]
    case = Case(function, ())
    results = []
    for run, dtype in ((case.run, np.float32), (case.define, np.float64)):
        inputs = leaves([x.astype(dtype) for x in arrays])
        outputs = run(*inputs)
        results.append([y.data for y in outputs] + list(tn.grad(outputs, inputs, normal_like(outputs))))
    for actual, desired in zip(*results, strict=True):
        np.testing.assert_allclose(actual, desired, rtol=1e-4, atol=1e-5 * abs(desired).max())


@pytest.mark.parametrize("function", [fused.RNN, fused.LSTM, fused.GRU])
def test_float16_rounds_the_gradients_of_long_sequences_once(function):
    """Not the sum of each step: in float16, 1 is lost beside 2,048."""
    states, gates = {fused.RNN: (1, 1), fused.LSTM: (2, 4), fused.GRU: (1, 3)}[function]
    rng, n, steps, hidden = np.random.default_rng(0), 64, 200, 8
    shapes = [(n, steps, 4), *[(n, hidden)] * states, (gates * hidden, 4), (gates * hidden, hidden), (gates * hidden,)]
    arrays = [(rng.standard_normal(shape) / 4).astype(np.float16) for shape in [*shapes, shapes[-1]]]
    gradients = []
    for dtype in (np.float16, np.float64):
        inputs = leaves([x.astype(dtype) for x in arrays])
        hs, *_ = function()(*inputs)
        gradients.append(tn.grad(hs, inputs[1 + states :], np.full(hs.shape, 1e-3, dtype)))
    for half, exact in zip(*gradients, strict=True):
        np.testing.assert_allclose(half, exact, rtol=0, atol=1.5e-3 * abs(exact).max())


# --- attention --------------------------------------------------------------------------------------------------------


def attention_inputs(n=3, queries=2, keys=4, width=5):
    rng = np.random.default_rng(0)
    return [rng.standard_normal(shape) for shape in ((n, queries, width), (n, keys, width), (n, keys, width))]


@pytest.mark.parametrize("parts", [1, 2, 3])
@pytest.mark.parametrize("same", [{"key", "value"}, {"query", "key"}, {"query", "value"}, {"query", "key", "value"}])
def test_one_variable_may_be_several_arguments(same, parts):
    query, key, value = attention_inputs(queries=4)
    x = key

    def gradient(function):
        leaf = Variable(x, requires_grad=True)
        given = {"query": query, "key": key, "value": value}
        outputs = function(*(leaf if name in same else array for name, array in given.items()))
        return tn.grad(outputs, leaf, normal_like(outputs))

    with cut(parts):
        kernel = fused.Attention(0.5, np.random.default_rng(1).random((3, 4, 4)) < 0.6)
        assert_all_close(gradient(kernel), gradient(kernel.definition))


@pytest.mark.parametrize("parts", [1, 3])
def test_keys_that_are_values_can_be_differentiated_twice(parts):
    query, key, _ = attention_inputs()
    with cut(parts):
        tn.check_grads(lambda q, k: fused.Attention(0.5)(q, k, k), [query, key], order=2)


def test_keys_that_are_values_but_constant_get_no_gradient():
    query, key, _ = attention_inputs()
    query, key = Variable(query, requires_grad=True), Variable(key)
    fused.Attention(1.0)(query, key, key)[0].sum().backward()
    assert key.grad is None
    assert query.grad is not None


def test_weights_are_those_of_a_mean_over_the_keys_that_may_be_seen():
    query, key, value = attention_inputs()
    mask = np.array([[True, False, True, True], [False, False, False, False]])
    context, weights = F.attention(query, key, value, mask)
    np.testing.assert_allclose(weights.sum(axis=-1), [[1, 0]] * 3, rtol=1e-12)
    assert (weights[..., ~mask[0]] == 0).all()
    assert (context[:, 1] == 0).all()
    np.testing.assert_allclose(context, weights @ value, rtol=1e-12)


def test_what_may_not_be_seen_does_not_matter():
    query, key, value = attention_inputs()
    mask = np.array([True, True, False, True])
    expected = fused.Attention(1.0, np.broadcast_to(mask, (3, 2, 4)))(query, key, value)
    key[:, 2] *= -1e6
    assert_all_close(F.attention(query, key, value, mask, scale=1.0), expected, rtol=0, atol=0)


@pytest.mark.parametrize("size", [1e4, -1e4])
def test_extreme_scores_stay_finite(size):
    arrays = [x.astype(np.float32) for x in attention_inputs()]
    inputs = leaves(arrays)
    outputs = fused.Attention(size)(*inputs)
    for array in (*(y.data for y in outputs), *tn.grad(outputs, inputs, normal_like(outputs))):
        assert np.isfinite(array).all()


def test_without_a_scale_it_is_one_over_the_root_of_the_width():
    query, key, value = attention_inputs(width=5)
    assert_all_close(F.attention(query, key, value), fused.Attention(5**-0.5)(query, key, value), rtol=0, atol=0)


def test_large_batches_of_attention_are_cut_into_parts(monkeypatch):
    monkeypatch.setattr(attention, "count", lambda: 3)

    def parts(query, keys):
        return len(attention._parts(np.empty(query), np.empty((*query[:-2], keys, query[-1]))))

    assert parts((128, 10, 512), 20) == 3
    assert parts((2, 640, 512), 20) == 2
    assert parts((1, 1280, 512), 20) == 1
    assert parts((8, 10, 16), 20) == 1
    assert parts((1280, 512), 20) == 1


# --- cross-entropy ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("targets", [[-1, -1, -1], []])
def test_where_no_target_counts_loss_and_gradient_are_zero(targets):
    logits = Variable(np.random.default_rng(0).standard_normal((len(targets), 4)), requires_grad=True)
    loss = F.cross_entropy(logits, np.array(targets, int), ignore_index=-1)
    loss.backward()
    assert loss.data == 0
    np.testing.assert_array_equal(logits.grad, np.zeros(logits.shape))


def test_ignored_targets_count_neither_in_the_mean_nor_in_the_gradient():
    logits = np.random.default_rng(0).standard_normal((4, 3))
    some, counted = Variable(logits, requires_grad=True), Variable(logits[[0, 3]], requires_grad=True)
    loss = F.cross_entropy(some, np.array([2, -100, -100, 1]))
    expected = F.cross_entropy(counted, np.array([2, 1]))
    loss.backward()
    expected.backward()
    np.testing.assert_allclose(loss.data, expected.data, rtol=1e-13)
    np.testing.assert_allclose(some.grad[[0, 3]], counted.grad, rtol=1e-13)
    assert (some.grad[1:3] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_logits_give_finite_losses_and_gradients(dtype):
    logits = Variable(np.array([[1e4, -1e4, 0], [-1e4, 1e4, 1e4], [-1e4, -1e4, -1e4]], dtype), requires_grad=True)
    loss = F.cross_entropy(logits, np.array([1, 1, 1]))
    loss.backward()
    np.testing.assert_allclose(loss.data, (2e4 + np.log(2) + np.log(3)) / 3, rtol=1e-6)
    expected = np.array([[1, -1, 0], [0, -1 / 2, 1 / 2], [1 / 3, -2 / 3, 1 / 3]]) / 3
    np.testing.assert_allclose(logits.grad, expected, atol=1e-7)


def test_a_class_that_is_impossible_has_no_share():
    logits = Variable(np.array([[0.0, -np.inf, 0.0]]), requires_grad=True)
    loss = F.cross_entropy(logits, np.array([0]))
    loss.backward()
    np.testing.assert_allclose(loss.data, np.log(2))
    np.testing.assert_allclose(logits.grad, [[-0.5, 0, 0.5]])


def test_a_weighted_loss_weights_its_gradient():
    array, targets = np.random.default_rng(0).standard_normal((4, 3)), np.array([0, 2, 1, 1])
    gradients = []
    for weight in (1.0, 3.0):
        logits = Variable(array, requires_grad=True)
        (F.cross_entropy(logits, targets) * weight).backward()
        gradients.append(logits.grad)
    np.testing.assert_allclose(gradients[1], 3 * gradients[0], rtol=1e-14)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.int64])
def test_targets_may_be_of_any_integer_type(dtype):
    logits = np.random.default_rng(0).standard_normal((3, 4))
    expected = F.cross_entropy(logits, np.array([0, 3, 1]))
    assert F.cross_entropy(logits, np.array([0, 3, 1], dtype)) == expected


# --- linear cross-entropy ---------------------------------------------------------------------------------------------


def linear_cross_entropy_inputs(rows=700, features=8, classes=10_000):
    rng = np.random.default_rng(0)
    x, weight = (rng.standard_normal(shape).astype(np.float32) for shape in ((rows, features), (classes, features)))
    return x, weight, rng.integers(classes, size=rows)


def test_all_logits_are_never_in_memory():
    x, weight, targets = linear_cross_entropy_inputs()
    inputs = leaves([x, weight])
    tracemalloc.start()
    try:
        loss = fused.LinearCrossEntropy(targets, -100)(*inputs)
        loss.backward()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    logits = 4 * len(x) * len(weight)
    assert peak < 0.7 * logits
    expected = tn.grad(fused.CrossEntropy(targets, -100)(tn.linear(*inputs)), inputs)
    for leaf, gradient in zip(inputs, expected, strict=True):
        np.testing.assert_allclose(leaf.grad, gradient, rtol=1e-4, atol=1e-8)


def test_rows_that_do_not_count_cost_nothing():
    x, weight, targets = linear_cross_entropy_inputs(rows=6, classes=5)
    targets[[1, 4]] = -1
    x[[1, 4]] = np.nan
    inputs = leaves([x, weight])
    loss = fused.LinearCrossEntropy(targets, -1)(*inputs)
    loss.backward()
    assert np.isfinite(loss.data)
    assert np.isfinite(inputs[1].grad).all()
    assert not inputs[0].grad[[1, 4]].any()
    nothing = fused.LinearCrossEntropy(np.full(6, -1), -1)(*inputs)
    assert nothing.data == 0
    assert all(not g.any() for g in tn.grad(nothing, inputs))


def test_huge_logits_stay_finite_in_the_linear_cross_entropy():
    inputs = leaves([np.array([[1e3, -1e3]], np.float32), np.eye(2, dtype=np.float32)])
    for target, expected in ((0, 0), (1, 2000)):
        loss = fused.LinearCrossEntropy(np.array([target]), -1)(*inputs)
        assert loss.data == expected
        assert all(np.isfinite(g).all() for g in tn.grad(loss, inputs))


@pytest.fixture
def safe_blocks(monkeypatch):
    """Of how many blocks the highest logits are looked for."""
    found = []
    highest = linear_cross_entropy._Share.highest
    monkeypatch.setattr(linear_cross_entropy._Share, "highest", lambda *a, **k: found.append(1) or highest(*a, **k))
    return found


def test_once_a_block_of_logits_is_too_high_the_rest_is_not_tried_without_the_highest(safe_blocks, monkeypatch):
    monkeypatch.setattr(linear_cross_entropy, "_BLOCK", 1)
    monkeypatch.setattr(linear_cross_entropy, "_IN_CACHE", 1)
    monkeypatch.setattr(linear_cross_entropy, "_FEWEST_ROWS", 2)
    x, weight, targets = linear_cross_entropy_inputs(rows=8, classes=5)
    fused.LinearCrossEntropy(targets, -1)(*leaves([x, weight]))
    assert not safe_blocks
    x[2:4] *= 100
    loss = fused.LinearCrossEntropy(targets, -1)(*(inputs := leaves([x, weight])))
    assert len(safe_blocks) == 3  # the second block of four and those behind it
    expected = fused.CrossEntropy(targets, -1)(tn.linear(*(same := leaves([x, weight]))))
    np.testing.assert_allclose(loss.data, expected.data, rtol=1e-5)
    assert_all_close(tn.grad(loss, inputs), tn.grad(expected, same), rtol=1e-4, atol=1e-6)


def test_nan_is_no_reason_to_stop():
    x, weight, targets = linear_cross_entropy_inputs(rows=3, classes=5)
    x[1] = np.nan
    assert np.isnan(fused.LinearCrossEntropy(targets, -1)(x, weight).data)


@pytest.mark.parametrize("height", [-1e3, -85, -62, -50, 0, 50, 62, 88, 1e3])
def test_how_high_all_logits_lie_does_not_matter_to_the_linear_cross_entropy(height):
    x, weight, targets = linear_cross_entropy_inputs(rows=6, classes=40)
    arrays = [x, weight, np.full(len(weight), height, np.float32)]
    loss = fused.LinearCrossEntropy(targets, -1)(*(inputs := leaves(arrays)))
    exact = fused.CrossEntropy(targets, -1)(tn.linear(*(wide := leaves([a.astype(np.float64) for a in arrays]))))
    np.testing.assert_allclose(loss.data, exact.data, rtol=1e-4)
    for gradient, expected in zip(tn.grad(loss, inputs), tn.grad(exact, wide), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def test_a_loss_may_be_scaled_before_backward():
    x, weight, targets = linear_cross_entropy_inputs(rows=6, classes=5)
    inputs = leaves([x, weight])
    once = tn.grad(fused.LinearCrossEntropy(targets, -1)(*inputs), inputs)
    thrice = tn.grad(3 * fused.LinearCrossEntropy(targets, -1)(*inputs), inputs)
    assert_all_close(thrice, [3 * g for g in once], rtol=1e-6)
