"""Layers with PyTorch's parameters, on PyTorch's own samples and on some of ours: outputs and all gradients."""

import warnings

import numpy as np
import pytest

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("torch", reason="the oracle needs PyTorch: `make oracle` installs it")
    pytest.importorskip("expecttest", reason="PyTorch's samples need expecttest: `make oracle` installs it")
    import torch
    from torch.testing._internal.common_modules import module_db

import tinygrad_nlp as tn
from tests.oracle.compare import Otherwise, compare, outputs, tally_of, tensors, to_ours
from tinygrad_nlp import Variable, nn

MODULE_DB = {info.name.removeprefix("nn."): info for info in module_db}
DTYPES = {"float32": torch.float32, "float64": torch.float64}

each_dtype = pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)


def with_parameters_of(theirs, ours):
    """`ours` with the state of `theirs`, as it is, in its dtype, and the pairs of their parameters."""
    state = theirs.state_dict()
    for name, parameter in ours.named_parameters():
        parameter.data = parameter.data.astype(state[name].numpy().dtype)
    ours.load_state_dict(state)
    mine = dict(ours.named_parameters())
    return [(parameter, mine[name]) for name, parameter in theirs.named_parameters()]


def agree(theirs, ours, *args):
    """Compare one call of two layers, with the gradients of the arguments and of the parameters."""
    leaves = with_parameters_of(theirs, ours)
    compare(tensors(theirs(*args)), outputs(ours(*to_ours(args, leaves))), leaves)


# --- PyTorch's samples ------------------------------------------------------------------------------------------------


def linear(*args, **kwargs):
    return nn.Linear(*args, **kwargs)


def embedding(*args, padding_idx=None, max_norm=None, **kwargs):
    if padding_idx is not None or max_norm is not None:
        raise Otherwise("no padding_idx and no max_norm")
    return nn.Embedding(*args, **kwargs)


def cross_entropy(weight=None, reduction="mean", ignore_index=-100, label_smoothing=0.0):
    if weight is not None or reduction != "mean" or label_smoothing:
        raise Otherwise("the plain mean only: no weight, sum, none, smoothing")
    return ClassesSecond(ignore_index)


class ClassesSecond(nn.CrossEntropyLoss):
    """With the classes on the second axis, as PyTorch has them."""

    def forward(self, logits, targets):
        if targets.dtype.kind == "f":
            raise Otherwise("targets are ids, no probabilities")
        if (targets == self.ignore_index).all():
            raise Otherwise("the mean of no targets is 0, not nan")
        axes = (0, *range(2, logits.ndim), 1)
        return super().forward(logits if logits.ndim < 3 else logits.transpose(axes), targets)


@each_dtype
@pytest.mark.parametrize(
    ("name", "make"), [("Linear", linear), ("Embedding", embedding), ("CrossEntropyLoss", cross_entropy)]
)
def test_layers_agree_on_the_samples_of_pytorch(name, make, dtype, record_property):
    info = MODULE_DB[name]

    def run(sample):
        constructor, forward = sample.constructor_input, sample.forward_input
        ours = make(*to_ours(constructor.args, []), **to_ours(constructor.kwargs, []))
        theirs = info.module_cls(*constructor.args, **constructor.kwargs).to(dtype)
        agree(theirs, ours, *forward.args, *forward.kwargs.values())  # by position: PyTorch calls the first "input"

    torch.manual_seed(0)
    samples = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True)
    tally = tally_of(f"nn.{name}", samples, run)
    record_property("oracle tally", vars(tally))
    assert not tally.wrong, f"{len(tally.wrong)} of {tally.samples} samples:\n" + "\n".join(tally.wrong[:5])
    assert tally.agree


# --- recurrent layers -------------------------------------------------------------------------------------------------


class Recurrent(nn.Module):
    """A layer or a cell as PyTorch's samples call it: without an axis for the batch, or with packed sequences."""

    def __init__(self, kind, *args, batch_first=True, proj_size=0, **kwargs):
        if proj_size:
            raise Otherwise("no proj_size")
        self.inner = getattr(nn, kind)(*args, **kwargs)
        self.axis = 0 if kind.endswith("Cell") else 1  # of the batch in states
        self._held, self.load_state_dict = self.inner._held, self.inner.load_state_dict

    def forward(self, x, state=None):
        if not isinstance(x, Variable | np.ndarray):
            raise Otherwise("lengths, no packed sequences")
        if state is not None:
            state = each(tn.expand_dims, state, self.axis)
        y = self.inner(tn.expand_dims(x, 0), state)
        if self.axis == 0:
            return each(tn.squeeze, y, 0)
        return tn.squeeze(y[0], 0), each(tn.squeeze, y[1], 1)


def each(function, state, axis):
    return tuple(function(part, axis) for part in state) if isinstance(state, tuple) else function(state, axis)


@each_dtype
@pytest.mark.parametrize("name", ["RNN", "GRU", "LSTM", "RNNCell", "GRUCell", "LSTMCell"])
def test_recurrent_layers_agree_on_the_samples_of_pytorch(name, dtype, record_property):
    info = MODULE_DB[name]

    def run(sample):
        constructor, forward = sample.constructor_input, sample.forward_input
        ours = Recurrent(name, *constructor.args, **constructor.kwargs)
        agree(info.module_cls(*constructor.args, **constructor.kwargs).to(dtype), ours, *forward.args)

    torch.manual_seed(0)
    samples = info.module_inputs_func(info, device="cpu", dtype=dtype, requires_grad=True, training=True)
    tally = tally_of(f"nn.{name}", samples, run)
    record_property("oracle tally", vars(tally))
    assert not tally.wrong, f"{len(tally.wrong)} of {tally.samples} samples:\n" + "\n".join(tally.wrong[:5])
    assert tally.agree


LAYERS = {"RNN": 1, "LSTM": 2, "GRU": 1}  # with the number of arrays in a state


@each_dtype
@pytest.mark.parametrize("with_state", [False, True], ids=["zeros", "state"])
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (2, True)])
@pytest.mark.parametrize(("batch", "steps", "features", "hidden"), [(1, 1, 1, 1), (3, 7, 4, 5), (70, 4, 3, 128)])
@pytest.mark.parametrize("name", LAYERS)
def test_a_recurrent_layer_agrees(name, batch, steps, features, hidden, layers, bidirectional, with_state, dtype):
    torch.manual_seed(0)
    settings = {"num_layers": layers, "bidirectional": bidirectional}
    theirs = getattr(torch.nn, name)(features, hidden, batch_first=True, dtype=dtype, **settings)
    shape = layers * (1 + bidirectional), batch, hidden
    state = [torch.randn(shape, dtype=dtype, requires_grad=True) for _ in range(LAYERS[name])]
    state = (tuple(state) if name == "LSTM" else state[0]) if with_state else None
    x = torch.randn(batch, steps, features, dtype=dtype, requires_grad=True)
    agree(theirs, getattr(nn, name)(features, hidden, **settings), x, state)


@each_dtype
@pytest.mark.parametrize(("layers", "bidirectional"), [(1, False), (3, True)])
@pytest.mark.parametrize("name", LAYERS)
def test_sequences_of_several_lengths_agree(name, layers, bidirectional, dtype):
    """PyTorch packs them, here a mask holds the state: outputs behind the end differ (there 0), the state does not."""
    torch.manual_seed(0)
    lengths = torch.tensor([5, 2, 1, 4])
    x = torch.randn(4, 5, 4, dtype=dtype, requires_grad=True)
    settings = {"num_layers": layers, "bidirectional": bidirectional}
    theirs, ours = getattr(torch.nn, name)(4, 6, batch_first=True, dtype=dtype, **settings), getattr(nn, name)
    ours = ours(4, 6, **settings)
    leaves = with_parameters_of(theirs, ours)
    packed = torch.nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    packed, state = theirs(packed)
    hs, _ = torch.nn.utils.rnn.pad_packed_sequence(packed, batch_first=True)
    mask = np.arange(5) < lengths.numpy()[:, None]
    my_hs, my_state = ours(to_ours(x, leaves), lengths=lengths.numpy())
    my_hs = my_hs * mask[:, :, None].astype(my_hs.dtype)
    compare([hs, *tensors(state)], [my_hs, *outputs(my_state)], leaves)


# --- losses for large vocabularies ------------------------------------------------------------------------------------


@each_dtype
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("words", [7, 9000])
def test_the_linear_cross_entropy_agrees(words, bias, dtype):
    torch.manual_seed(0)
    theirs = torch.nn.LinearCrossEntropyLoss(5, words, bias=bias, ignore_index=-1, dtype=dtype)
    x = torch.randn(600, 5, dtype=dtype, requires_grad=True)
    targets = torch.randint(-1, words, (600,))
    agree(theirs, nn.LinearCrossEntropyLoss(5, words, bias=bias, ignore_index=-1), x, targets)


@each_dtype
@pytest.mark.parametrize("head_bias", [False, True])
def test_the_adaptive_softmax_agrees(head_bias, dtype):
    torch.manual_seed(0)
    settings = {"cutoffs": [4, 11, 20], "div_value": 2.0, "head_bias": head_bias}
    theirs, ours = torch.nn.AdaptiveLogSoftmaxWithLoss(16, 30, **settings), nn.AdaptiveSoftmaxLoss(16, 30, **settings)
    leaves = with_parameters_of(theirs.to(dtype), ours)
    x, targets = torch.randn(50, 16, dtype=dtype, requires_grad=True), torch.randint(30, (50,))
    my_x, my_targets = to_ours((x, targets), leaves)
    compare([theirs(x, targets).loss, theirs.log_prob(x)], [ours(my_x, my_targets), ours.log_prob(my_x)], leaves)


# --- a model ----------------------------------------------------------------------------------------------------------


@each_dtype
def test_a_language_model_agrees_on_loss_and_gradients(dtype):
    torch.manual_seed(0)
    words, width = 11, 6
    theirs = torch.nn.ModuleDict({
        "embed": torch.nn.Embedding(words, width, dtype=dtype),
        "lstm": torch.nn.LSTM(width, width, batch_first=True, dtype=dtype),
        "out": torch.nn.Linear(width, words, dtype=dtype),
    })  # fmt: skip
    theirs["out"].weight = theirs["embed"].weight  # tied

    class Model(nn.Module):
        def __init__(self):
            self.embed = nn.Embedding(words, width)
            self.lstm = nn.LSTM(width, width)
            self.out = nn.Linear(width, words)
            self.out.weight = self.embed.weight

        def forward(self, ids):
            return self.out(self.lstm(self.embed(ids))[0])

    ours = Model()
    leaves = with_parameters_of(theirs, ours)
    ids = torch.randint(words, (4, 8))
    logits = theirs["out"](theirs["lstm"](theirs["embed"](ids[:, :-1]))[0])
    loss = torch.nn.functional.cross_entropy(logits.transpose(1, 2), ids[:, 1:])
    mine = nn.functional.cross_entropy(ours(ids[:, :-1].numpy()), ids[:, 1:].numpy())
    compare([loss], [mine], leaves)
