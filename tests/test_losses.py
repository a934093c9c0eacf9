"""Losses for large vocabularies, and weights that are tied to those of an embedding."""

import math
import re

import numpy as np
import pytest
import safetensors.numpy

import tinygrad_nlp as tn
from tinygrad_nlp import Variable, nn, optim
from tinygrad_nlp.nn import functional as F
from tinygrad_nlp.training import load_weights, save_weights


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def in_float64(module):
    for parameter in module.parameters():
        parameter.data = parameter.data.astype(float)
    return module


# --- tied weights -----------------------------------------------------------------------------------------------------


class LanguageModel(nn.Module):
    """Words in, words out, with one table for both in one of three ways."""

    def __init__(self, way):
        tn.manual_seed(0)
        self.way = way
        self.embed = nn.Embedding(11, 4)
        self.lstm = nn.LSTM(4, 4)
        if way == "a shared Parameter":
            self.out = nn.Linear(4, 11, bias=False)
            self.out.weight = self.embed.weight
        elif way == "LinearCrossEntropyLoss":
            self.loss = nn.LinearCrossEntropyLoss(4, 11)
            self.loss.linear.weight = self.embed.weight

    def forward(self, ids, targets):
        hs, _ = self.lstm(self.embed(ids))
        if self.way == "as_linear":
            return F.cross_entropy(self.embed.as_linear(hs), targets)
        if self.way == "a shared Parameter":
            return F.cross_entropy(self.out(hs), targets)
        return self.loss(hs, targets)


WAYS = ["as_linear", "a shared Parameter", "LinearCrossEntropyLoss"]
IDS = np.array([[1, 4, 4, 10], [0, 1, 9, 9]])


def one_step(way):
    model = LanguageModel(way)
    optimizer = optim.SGD(model.parameters(), lr=1.0)
    loss = model(IDS[:, :-1], IDS[:, 1:])
    loss.backward()
    norm = optim.clip_grad_norm_(model.parameters(), 0.25)
    optimizer.step()
    return model, loss, norm


@pytest.mark.parametrize("way", WAYS)
def test_a_tied_weight_is_one_parameter_in_clipping_file_and_optimizer(way, tmp_path):
    model, loss, norm = one_step(way)
    names = [name for name, _ in model.named_parameters()]
    assert names == ["embed.weight", *(f"lstm.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))]
    assert len(optim.Adam(model.parameters()).parameters) == len(names)

    untied = LanguageModel("a shared Parameter")
    untied.out.weight = nn.Parameter(untied.embed.weight.data.copy())
    expected = untied(IDS[:, :-1], IDS[:, 1:])
    expected.backward()
    gradients = {name: p.grad for name, p in untied.named_parameters()}
    gradients["embed.weight"] = gradients["embed.weight"].to_dense() + gradients.pop("out.weight")
    assert loss.item() == pytest.approx(expected.item(), rel=1e-6)
    assert norm == pytest.approx(math.sqrt(sum((g**2).sum() for g in gradients.values())), rel=1e-5)
    before = dict(LanguageModel(way).named_parameters())
    for name, p in model.named_parameters():
        step = gradients[name] * (0.25 / norm)
        np.testing.assert_allclose(p.data, before[name].data - step, rtol=1e-5, atol=1e-7, err_msg=name)

    save_weights(model, tmp_path / "weights.safetensors")
    assert sorted(safetensors.numpy.load_file(tmp_path / "weights.safetensors")) == sorted(names)
    again = LanguageModel(way)
    load_weights(again, tmp_path / "weights.safetensors")
    assert again(IDS[:, :-1], IDS[:, 1:]).data == model(IDS[:, :-1], IDS[:, 1:]).data


@pytest.mark.parametrize("way", WAYS)
def test_a_tied_model_can_be_differentiated_twice(way):
    model = in_float64(LanguageModel(way))
    parameters = list(model.parameters())

    first = tn.grad(model(IDS[:1, :2], IDS[:1, 1:3]), parameters, create_graph=True)
    direction = [normal(*p.shape, dtype=float, seed=k) for k, p in enumerate(parameters)]
    product = tn.grad(sum((g * d).sum() for g, d in zip(first, direction, strict=True)), parameters)
    eps = 1e-6
    moved = []
    original = [p.data.copy() for p in parameters]
    for sign in (1, -1):
        for p, o, d in zip(parameters, original, direction, strict=True):
            p.data = o + sign * eps * d
        moved.append([np.asarray(g) for g in tn.grad(model(IDS[:1, :2], IDS[:1, 1:3]), parameters)])
    for hvp, up, down in zip(product, *moved, strict=True):
        np.testing.assert_allclose(np.asarray(hvp), (up - down) / (2 * eps), rtol=1e-5, atol=1e-7)


def test_as_linear_scores_each_word():
    embed, x = nn.Embedding(5, 3), normal(2, 4, 3)
    np.testing.assert_allclose(embed.as_linear(x).data, x @ embed.weight.data.T, rtol=1e-6)
    with pytest.raises(ValueError, match=re.escape("linear: x has 2 features (4, 2), weight (5, 3) needs 3")):
        embed.as_linear(normal(4, 2))


def test_a_cross_entropy_of_no_classes_says_so():
    with pytest.raises(ValueError, match=r"^cross_entropy: the logits of no classes"):
        F.cross_entropy(normal(3, 0), np.full(3, -100))


# --- linear cross-entropy ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("leading", [(), (3,), (2, 5), (0,)])
def test_linear_cross_entropy_is_the_cross_entropy_of_a_linear_layer(leading, bias):
    loss = in_float64(nn.LinearCrossEntropyLoss(4, 7, bias=bias, ignore_index=3))
    x = Variable(normal(*leading, 4, dtype=float), requires_grad=True)
    targets = np.random.default_rng(0).integers(7, size=leading)
    expected = F.cross_entropy(loss.linear(x), targets, ignore_index=3)
    actual = loss(x, targets)
    np.testing.assert_allclose(actual.data, expected.data, rtol=1e-12)
    leaves = [x, *loss.parameters()]
    for ours, theirs in zip(tn.grad(actual, leaves), tn.grad(expected, leaves), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-10, atol=1e-14)
    assert [name for name, _ in loss.named_parameters()] == ["linear.weight", "linear.bias"][: 1 + bias]


@pytest.mark.parametrize("words", [7, 300], ids=["few words", "many"])
@pytest.mark.parametrize("ignored", [0, 11, 30], ids=["all count", "some", "none"])
@pytest.mark.parametrize(
    "lay",
    [
        lambda x: x,
        lambda x: np.moveaxis(x.copy(), 2, 0),
        lambda x: x.transpose(2, 0, 1, 3),
        lambda x: x.transpose(1, 2, 0, 3)[:, ::-1],
        lambda x: x[:, :, :, ::-1],
    ],
    ids=["in order", "copied", "another order", "backwards", "features backwards"],
)
def test_linear_cross_entropy_takes_rows_in_any_order_of_memory(lay, ignored, words):
    rng = np.random.default_rng(0)
    data = lay(rng.standard_normal((5, 3, 2, 4)))
    targets = rng.integers(words, size=data.shape[:-1])
    targets.reshape(-1)[rng.permutation(targets.size)[:ignored]] = -1
    weight, bias = (
        Variable(rng.standard_normal(shape), requires_grad=True) for shape in ((words, data.shape[-1]), words)
    )
    results = []
    for x in (data, np.ascontiguousarray(data)):
        leaves = [Variable(x, requires_grad=True), weight, bias]
        loss = F.linear_cross_entropy(*leaves[:2], targets, linear_bias=bias, ignore_index=-1)
        results.append([loss.data, *tn.grad(loss, leaves)])
    expected = F.cross_entropy(tn.linear(leaves[0], weight, bias), targets, ignore_index=-1)
    results.append([expected.data, *tn.grad(expected, leaves)])
    for as_it_lies, in_order, of_definition in zip(*results, strict=True):
        np.testing.assert_allclose(as_it_lies, of_definition, rtol=1e-10, atol=1e-14)
        np.testing.assert_allclose(in_order, of_definition, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint64])
@pytest.mark.parametrize("words", [100, 3000])
def test_linear_cross_entropy_takes_targets_of_any_integers(words, dtype):
    rng = np.random.default_rng(0)
    targets = rng.integers(100, size=500)
    leaves = [Variable(rng.standard_normal((n, 8)), requires_grad=True) for n in (500, words)]
    of_dtype, of_int64 = (F.linear_cross_entropy(*leaves, ids) for ids in (targets.astype(dtype), targets))
    assert of_dtype.item() == of_int64.item()
    for one, other in zip(tn.grad(of_dtype, leaves), tn.grad(of_int64, leaves), strict=True):
        np.testing.assert_array_equal(one, other)


def test_linear_cross_entropy_of_no_features_knows_nothing():
    loss = F.linear_cross_entropy(np.ones((7, 0)), np.ones((4, 0)), np.zeros(7, int))
    assert float(loss) == pytest.approx(np.log(4))


def test_linear_cross_entropy_names_what_does_not_fit():
    x, weight, targets = normal(2, 3), normal(5, 3), np.array([0, 4])
    for changed, error, message in (
        ({"linear_weight": weight[:, :2]}, ValueError, "x has 3 features (2, 3), linear_weight (5, 2) needs 2"),
        ({"linear_weight": weight[:0]}, ValueError, "linear_weight of no classes; a softmax needs one at least"),
        ({"linear_weight": weight[0]}, ValueError, "linear_weight has the shape (3,); (V, D) is needed"),
        ({"linear_bias": normal(4)}, ValueError, "linear_bias has the shape (4,); (5,) is needed"),
        ({"targets": [1]}, ValueError, "targets have the shape (1,); x of (2, 3) need (2,)"),
        (
            {"targets": [5, 0]},
            IndexError,
            "target 5 is outside the 5 classes of linear_weight (and is not",
        ),
        ({"targets": [1.0, 0]}, TypeError, "targets must be integer ids, not float64"),
        ({"linear_weight": weight.astype(float)}, TypeError, "the arguments must share one floating dtype, but are x"),
        ({"x": x.tolist()}, TypeError, "x must be an array or a Variable, not list"),
    ):
        with pytest.raises(error, match="^" + re.escape(f"linear_cross_entropy: {message}")):
            F.linear_cross_entropy(**{"x": x, "linear_weight": weight, "targets": targets, **changed})


# --- adaptive softmax -------------------------------------------------------------------------------------------------


def test_the_probabilities_of_the_adaptive_softmax_sum_to_one_and_its_loss_is_theirs():
    loss = in_float64(nn.AdaptiveSoftmaxLoss(8, 20, cutoffs=[3, 9], div_value=2.0, head_bias=True))
    x = Variable(normal(6, 5, 8, dtype=float), requires_grad=True)
    targets = np.random.default_rng(0).integers(20, size=(6, 5))
    log_prob = loss.log_prob(x)
    np.testing.assert_allclose(np.exp(log_prob.data).sum(axis=-1), 1, rtol=1e-12)
    picked = np.take_along_axis(log_prob.data, targets[..., None], axis=-1)
    actual = loss(x, targets)
    np.testing.assert_allclose(actual.data, -picked.mean(), rtol=1e-12)
    expected = -tn.take_along_axis(log_prob, targets[..., None], axis=-1).mean()
    leaves = [x, *loss.parameters()]
    for ours, theirs in zip(tn.grad(actual, leaves), tn.grad(expected, leaves), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-9, atol=1e-13)


def test_the_adaptive_softmax_has_the_parameters_of_pytorch():
    loss = nn.AdaptiveSoftmaxLoss(64, 1000, cutoffs=[10, 100])
    assert {name: p.shape for name, p in loss.named_parameters()} == {
        "head.weight": (12, 64), "tail.0.0.weight": (16, 64), "tail.0.1.weight": (90, 16),
        "tail.1.0.weight": (4, 64), "tail.1.1.weight": (900, 4),
    }  # fmt: skip
    assert repr(loss).startswith("AdaptiveSoftmaxLoss(10, 100, 1000\n  (head): Linear(64, 12, bias=False)")


def test_the_adaptive_softmax_leaves_out_ignored_targets_and_clusters_that_nobody_needs():
    loss = nn.AdaptiveSoftmaxLoss(8, 20, cutoffs=[3, 9], ignore_index=-1, div_value=2.0)
    x = normal(4, 8)
    some = loss(Variable(x), np.array([0, -1, 5, -1]))
    np.testing.assert_allclose(some.data, loss(Variable(x[[0, 2]]), np.array([0, 5])).data, rtol=1e-6)
    some.backward()
    assert loss.tail[0][1].weight.grad is not None
    assert loss.tail[1][1].weight.grad is None
    assert loss(Variable(x), np.full(4, -1)).data == 0


def test_the_adaptive_softmax_can_be_differentiated_twice():
    loss = in_float64(nn.AdaptiveSoftmaxLoss(4, 6, cutoffs=[2], div_value=2.0))
    tn.check_grads(lambda x: loss(x, np.array([0, 1, 3, 5])), [normal(4, 4, dtype=float)], order=2)


@pytest.mark.parametrize("cutoffs", [[], [0], [20], [5, 5], [9, 3]])
def test_cutoffs_that_make_no_sense_are_refused(cutoffs):
    message = f"AdaptiveSoftmaxLoss: cutoffs must be one or more ids that increase within [1, 20), not {cutoffs}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        nn.AdaptiveSoftmaxLoss(8, 20, cutoffs)


def test_a_cluster_without_features_is_refused():
    with pytest.raises(ValueError, match=r"with div_value 4.0 the clusters see \[2, 0\] of 8 features; use a smaller"):
        nn.AdaptiveSoftmaxLoss(8, 20, [3, 9])


def test_the_adaptive_softmax_names_what_does_not_fit():
    loss = nn.AdaptiveSoftmaxLoss(8, 20, [3])
    prefix = "adaptive_softmax in AdaptiveSoftmaxLoss: "
    for x, targets, error, message in (
        (normal(2, 8), [0, 20], IndexError, prefix + "target 20 is outside the 20 classes of the loss"),
        (normal(2, 8), [0], ValueError, prefix + "targets have the shape (1,); x of (2, 8) need (2,)"),
        (normal(2, 8), [0.0, 1.0], TypeError, prefix + "targets must be integer ids, not float64"),
        ([[1.0]], [0], TypeError, prefix + "x must be an array or a Variable, not list"),
        (normal(2, 7), [0, 1], ValueError, "linear_cross_entropy in AdaptiveSoftmaxLoss: x has 7 features (2, 7)"),
    ):
        with pytest.raises(error, match="^" + re.escape(message)):
            loss(x, np.array(targets))
