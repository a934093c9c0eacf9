"""Modules and layers: what they hold, compute and refuse; and that they agree with PyTorch."""

import copy
import math
import pickle
import re

import numpy as np
import pytest
import safetensors.numpy

import tinygrad_nlp as tn
from tests.golden import make
from tinygrad_nlp import RowSparse, Variable, backend, nn, optim
from tinygrad_nlp.nn import functional as F
from tinygrad_nlp.nn.fused import recurrence


def normal(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


class Attentive(nn.Module):
    """Parameters of its own, between and after modules, in lists and tied."""

    def __init__(self):
        self.embedding = nn.Embedding(5, 3)
        self.scale = nn.Parameter(np.ones(3, np.float32))
        self.layers = nn.ModuleList([nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), tn.tanh, nn.Dropout(0.5))])
        self.out = nn.Linear(3, 5, bias=False)
        self.out.weight = self.embedding.weight

    def forward(self, ids):
        x = self.embedding(ids) * self.scale
        for layer in self.layers:
            x = layer(x)
        return self.out(x)


NAMES = [
    "scale", "embedding.weight", "layers.0.weight", "layers.0.bias", "layers.1.0.weight", "layers.1.0.bias",
]  # fmt: skip


# --- Module: parameters -----------------------------------------------------------------------------------------------


def test_parameters_come_in_the_order_of_assignment_those_of_a_module_before_those_inside_it():
    assert [name for name, _ in Attentive().named_parameters()] == NAMES


def test_a_tied_parameter_comes_once_under_its_first_name():
    model = Attentive()
    assert model.out.weight is model.embedding.weight
    assert len(list(model.parameters())) == len(NAMES)
    assert list(model.state_dict()) == NAMES


def test_a_module_that_is_held_twice_has_its_parameters_once():
    layer = nn.Linear(2, 2)
    model = nn.Sequential(layer, layer)
    assert [name for name, _ in model.named_parameters()] == ["0.weight", "0.bias"]
    assert [name for name, _ in model.named_modules()] == ["", "0", "1"]


def test_a_parameter_is_a_leaf_with_a_gradient_and_the_name_of_its_attribute():
    layer = nn.Linear(2, 3)
    assert layer.weight.is_leaf
    assert layer.weight.requires_grad
    assert (layer.weight.name, layer.bias.name) == ("weight", "bias")
    model = Attentive()
    assert model.out.weight.name == "weight"
    with pytest.raises(TypeError, match="floating"):
        nn.Parameter(np.arange(3))


def test_zero_grad_forgets_all_gradients_under_its_three_names():
    model = Attentive()
    for forget in (model.zero_grad, model.cleargrads, optim.SGD(model.parameters(), lr=0.1).zero_grad):
        model(np.array([1, 2])).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
        forget()
        assert all(p.grad is None for p in model.parameters())


def test_moving_a_module_to_where_it_lies_keeps_its_values():
    model = Attentive()
    assert model.to("cpu") is model


def test_train_and_eval_reach_all_modules():
    model = Attentive()
    assert all(module.training for _, module in model.named_modules())
    assert model.eval() is model
    assert not any(module.training for _, module in model.named_modules())
    assert model.train() is model
    assert all(module.training for _, module in model.named_modules())


def test_a_copy_and_a_pickle_of_a_model_compute_the_same_with_parameters_of_their_own():
    model = Attentive().eval()
    expected = model(np.array([1, 2])).data
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(nn.Sequential(model.layers[0])))):
        for (_, ours), (_, theirs) in zip(model.named_parameters(), twin.named_parameters(), strict=False):
            assert ours is not theirs
    twin = copy.deepcopy(model)
    np.testing.assert_array_equal(twin(np.array([1, 2])).data, expected)
    assert twin.out.weight is twin.embedding.weight


def test_a_module_without_forward_says_so():
    class Empty(nn.Module):
        pass

    with pytest.raises(NotImplementedError, match=r"Empty\.forward"):
        Empty()(1)


# --- Module: frozen parameters ----------------------------------------------------------------------------------------


class Tagger(nn.Module):
    """An LSTM under a head."""

    def __init__(self):
        self.embed, self.rnn, self.head = nn.Embedding(7, 3), nn.LSTM(3, 4), nn.Linear(4, 2)

    def forward(self, ids):
        return self.head(self.rnn(self.embed(ids))[0])


IDS = np.array([[1, 2, 2], [6, 0, 1]])


@pytest.mark.parametrize("frozen", [["embed"], ["rnn"], ["head"], ["embed", "rnn"], ["rnn", "head"]])
def test_no_gradient_is_computed_for_what_is_frozen_and_the_others_stay(frozen):
    model = Tagger()
    (model(IDS) ** 2).sum().backward()
    expected = {name: p.grad for name, p in model.named_parameters()}
    for name in frozen:
        assert getattr(model, name).requires_grad_(False) is getattr(model, name)
    model.zero_grad()
    (model(IDS) ** 2).sum().backward()
    for name, p in model.named_parameters():
        if name.split(".")[0] in frozen:
            assert p.grad is None
        else:
            np.testing.assert_array_equal(
                *(g.to_dense() if isinstance(g, RowSparse) else g for g in (p.grad, expected[name]))
            )


def test_below_a_frozen_beginning_there_is_no_graph():
    model = Tagger()
    model.embed.requires_grad_(False)
    model.rnn.requires_grad_(False)
    hs, _ = model.rnn(model.embed(IDS))
    assert not hs.requires_grad
    assert model.head(hs).requires_grad


def test_through_a_frozen_lstm_a_gradient_flows_without_those_of_its_weights(monkeypatch):
    monkeypatch.setattr(recurrence.Part, "weight_gradients", lambda self: pytest.fail("nobody wants them"))
    model = Tagger()
    model.rnn.requires_grad_(False)
    (model(IDS) ** 2).sum().backward()
    assert model.embed.weight.grad is not None


def test_a_frozen_parameter_forgets_its_gradient_and_learns_again():
    model = Tagger()
    (model(IDS) ** 2).sum().backward()
    model.rnn.requires_grad_(False)
    assert [name for name, p in model.named_parameters() if p.grad is None] == [
        f"rnn.{name}_l0" for name in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    ]
    assert model.requires_grad_() is model
    assert all(p.requires_grad for p in model.parameters())
    assert model.head.weight.grad is not None  # unfreezing forgets nothing
    (model(IDS) ** 2).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_tied_parameter_is_frozen_for_both():
    model = Attentive()
    model.out.requires_grad_(False)
    assert not model.embedding.weight.requires_grad


def test_what_is_frozen_is_stored_and_loaded_as_any_other():
    model, other = Tagger(), Tagger()
    other.requires_grad_(False)
    other.load_state_dict(model.state_dict())
    np.testing.assert_equal(other.state_dict(), model.state_dict())
    assert not any(p.requires_grad for p in other.parameters())
    assert not any(p.requires_grad for p in copy.deepcopy(other).parameters())


# --- Module: weights by name ------------------------------------------------------------------------------------------


def test_weights_go_from_one_model_to_another_by_name():
    model, other = Attentive(), Attentive()
    arrays = {id(p.data) for p in other.parameters()}
    other.load_state_dict(model.state_dict())
    assert {id(p.data) for p in other.parameters()} == arrays  # copied in
    for (_, ours), (_, theirs) in zip(model.named_parameters(), other.named_parameters(), strict=True):
        np.testing.assert_array_equal(ours.data, theirs.data)


def test_weights_that_do_not_fit_are_all_listed_and_nothing_is_changed():
    model = Attentive()
    state = {name: array + 1 for name, array in model.state_dict().items()}
    del state["scale"], state["layers.0.bias"]
    state |= {"layers.7.bias": np.ones(3), "layers.0.weight": np.ones((3, 2))}
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with pytest.raises(ValueError, match="these weights are not of this Attentive") as error:
        model.load_state_dict(state)
    assert str(error.value).splitlines()[1:] == [
        "  missing: scale",
        "  missing: layers.0.bias",
        "  unexpected: layers.7.bias",
        "  layers.0.weight: shape (3, 2), (3, 3) is needed",
    ]
    np.testing.assert_equal(model.state_dict(), before)


@pytest.mark.parametrize("names", [["embedding.weight"], ["out.weight"], ["out.weight", "embedding.weight"]])
def test_a_tied_parameter_is_loaded_under_any_of_its_names(names):
    model = Attentive()
    table = normal(5, 3)
    state = model.state_dict()
    del state["embedding.weight"]
    model.load_state_dict({**state, **dict.fromkeys(names, table)})
    np.testing.assert_array_equal(model.embedding.weight.data, table)
    assert model.out.weight is model.embedding.weight


def test_two_values_for_one_tied_parameter_are_refused():
    model = Attentive()
    before = model.embedding.weight.data.copy()
    with pytest.raises(ValueError, match=r"embedding\.weight and out\.weight: one tied parameter, but two values"):
        model.load_state_dict({**model.state_dict(), "out.weight": before + 1, "embedding.weight": before + 2})
    np.testing.assert_array_equal(model.embedding.weight.data, before)


@pytest.mark.parametrize("kind", ["U3", complex, object])
def test_weights_that_are_no_real_numbers_are_refused_and_nothing_is_changed(kind):
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    state = {name: array + 1 for name, array in model.state_dict().items()}
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"1\.bias: \S+ is no dtype of its numbers"):
        model.load_state_dict({**state, "1.bias": np.array(["1", "2"]).astype(kind)})
    np.testing.assert_equal(model.state_dict(), before)


@pytest.mark.parametrize("kind", [bool, np.int64, np.float16, np.float64])
def test_weights_of_any_real_dtype_go_into_a_parameter_of_any(kind):
    layer = nn.Linear(2, 1)
    layer.weight.data = layer.weight.data.astype(np.float16)
    layer.load_state_dict({"weight": np.array([[0, 1]]).astype(kind), "bias": np.array([1]).astype(kind)})
    np.testing.assert_array_equal(layer.weight.data, [[0, 1]])


def test_weights_are_not_written_into_half_of_a_model():
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight.data = np.broadcast_to(np.float32(0), (2, 2))
    state = {name: array + 1 for name, array in model.state_dict().items()}
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"1\.weight: the parameter is a view that cannot be written to"):
        model.load_state_dict(state)
    np.testing.assert_equal(model.state_dict(), before)


def test_weights_that_are_not_numbers_are_loaded_as_they_are():
    layer = nn.Linear(2, 1)
    layer.load_state_dict({"weight": np.array([[np.nan, 1]]), "bias": [2.0]})
    np.testing.assert_array_equal(layer.weight.data, [[np.nan, 1]])


def test_tensors_of_pytorch_are_loaded_without_conversion():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs, layer = torch.nn.Linear(2, 3), nn.Linear(2, 3)
    for state in (theirs.state_dict(), dict(theirs.named_parameters())):
        layer.load_state_dict({name: tensor + 1 for name, tensor in state.items()})
        np.testing.assert_array_equal(layer.weight.data, theirs.weight.detach().numpy() + 1)
    before = layer.weight.data.copy()
    with pytest.raises(TypeError, match=r"^weight is no array that NumPy can read .*BFloat16.*: give it as float32"):
        layer.load_state_dict(theirs.bfloat16().state_dict())
    np.testing.assert_array_equal(layer.weight.data, before)


def test_what_fits_by_name_is_loaded_and_the_other_names_are_told():
    trained, model = Attentive(), Attentive()
    state = {name: array + 1 for name, array in trained.state_dict().items()}
    del state["scale"], state["layers.0.bias"]
    before = {name: array.copy() for name, array in model.state_dict().items()}
    others = model.load_state_dict({**state, "head.weight": np.ones((9, 9))}, strict=False)
    assert others == (["scale", "layers.0.bias"], ["head.weight"])
    assert others.missing_keys == ["scale", "layers.0.bias"]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, (before if name in others.missing_keys else state)[name])
    assert model.load_state_dict(trained.state_dict()) == ([], [])
    assert model.load_state_dict({}, strict=False) == (list(before), [])


def test_a_tied_parameter_that_is_there_under_one_name_is_not_missing():
    model, table = Attentive(), normal(5, 3)
    others = model.load_state_dict({"out.weight": table}, strict=False)
    assert "embedding.weight" not in others.missing_keys
    np.testing.assert_array_equal(model.embedding.weight.data, table)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"layers.0.weight": np.ones((3, 2))}, r"\n  layers\.0\.weight: shape \(3, 2\), \(3, 3\) is needed$"),
        ({"out.weight": np.ones((5, 3)), "embedding.weight": np.zeros((5, 3))}, "one tied parameter, but two values$"),
    ],
)
def test_also_what_is_loaded_in_part_must_fit(wrong, message):
    model = Attentive()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with pytest.raises(ValueError, match=message):
        model.load_state_dict({"scale": before["scale"] + 1, "more": np.ones(1), **wrong}, strict=False)
    np.testing.assert_equal(model.state_dict(), before)


def test_weights_take_the_dtype_of_the_parameter():
    layer = nn.Linear(2, 3)
    layer.load_state_dict({"weight": normal(3, 2, dtype=np.float64), "bias": np.arange(3)})
    assert {p.dtype for p in layer.parameters()} == {np.dtype(np.float32)}
    np.testing.assert_array_equal(layer.bias.data, [0, 1, 2])


def test_loading_between_forward_and_backward_is_noticed():
    layer = nn.Linear(2, 3)
    loss = layer(Variable(normal(4, 2), requires_grad=True)).sum()
    layer.load_state_dict(layer.state_dict())
    with pytest.raises(RuntimeError, match="changed in place"):
        loss.backward()


# --- containers, names, printed forms ---------------------------------------------------------------------------------


def test_a_module_list_is_a_list():
    first, second, third = (nn.Linear(1, n) for n in (1, 2, 3))
    modules = nn.ModuleList([first, second])
    modules.append(third)
    assert list(modules) == [first, second, third]
    assert len(modules) == 3
    assert modules[0] is first
    assert modules[-1] is third
    with pytest.raises(IndexError):
        modules[3]


def test_sequential_runs_modules_and_functions_one_after_the_other():
    first, second = nn.Linear(2, 4), nn.Linear(4, 3)
    model = nn.Sequential(first, tn.sigmoid, second)
    x = Variable(normal(5, 2))
    np.testing.assert_array_equal(model(x).data, second(tn.sigmoid(first(x))).data)
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]  # as in PyTorch
    assert list(model) == [first, tn.sigmoid, second]
    assert len(model) == 3
    assert model[2] is second


def test_what_is_appended_to_sequential_runs():
    model = nn.Sequential(nn.Linear(2, 4), tn.sigmoid)
    model.append(nn.Linear(4, 3))
    model.append(tn.tanh)
    assert model(normal(5, 2)).shape == (5, 3)
    assert list(model.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]


@pytest.mark.parametrize("place", ["2", 2, -1])
def test_what_is_put_into_sequential_runs_and_is_trained(place):
    model = nn.Sequential(nn.Linear(2, 4), tn.sigmoid, nn.Linear(4, 3))
    head = nn.Linear(4, 5)
    if isinstance(place, str):
        setattr(model, place, head)
    else:
        model[place] = head
    assert model(normal(1, 2)).shape == (1, 5)
    assert dict(model.named_parameters())["2.weight"] is head.weight
    assert head._name == "2"


def test_functions_and_modules_of_sequential_take_each_others_places():
    model = nn.Sequential(nn.Linear(2, 4), tn.sigmoid)
    model[0], model[1] = tn.tanh, nn.Linear(2, 3)
    x = normal(1, 2)
    np.testing.assert_array_equal(model(x).data, model[1](tn.tanh(x)).data)
    assert list(model.state_dict()) == ["1.weight", "1.bias"]
    model[0] = nn.Linear(2, 2)
    assert [name for name, _ in model.named_children()] == ["0", "1"]  # as if made so: optimizers go by places
    with pytest.raises(IndexError):
        model[2] = tn.tanh
    with pytest.raises(TypeError):
        model[0:1] = tn.tanh


def test_what_cannot_run_is_no_part_of_sequential():
    with pytest.raises(TypeError, match=r"^Sequential takes modules and functions, not \[Linear\(2, 2\)\]; .* \*list$"):
        nn.Sequential([nn.Linear(2, 2)])


def test_a_module_of_a_list_is_replaced():
    modules = nn.ModuleList([nn.Linear(1, 1), nn.Linear(1, 2)])
    modules[-1] = last = nn.Linear(1, 3)
    assert list(modules)[1] is last
    assert modules.state_dict()["1.weight"].shape == (3, 1)
    with pytest.raises(IndexError):
        modules[2] = last
    with pytest.raises(TypeError):
        modules[0:1] = last
    with pytest.raises(TypeError, match="ModuleList takes modules"):
        modules[0] = tn.tanh


def test_an_empty_sequential_is_the_identity():
    x = normal(2, 2)
    assert nn.Sequential()(x) is x


def test_a_model_is_printed_as_a_tree():
    assert repr(nn.Sequential(nn.Linear(2, 3), nn.ModuleList([nn.Linear(3, 1, bias=False)]))) == (
        "Sequential(\n  (0): Linear(2, 3)\n  (1): ModuleList(\n    (0): Linear(3, 1, bias=False)\n  )\n)"
    )
    for layer, form in {
        nn.Embedding(5, 3): "Embedding(5, 3)",
        nn.LSTM(3, 4): "LSTM(3, 4)",
        nn.RNN(3, 4, 2, nonlinearity="relu", dropout=0.5): "RNN(3, 4, num_layers=2, nonlinearity=relu, dropout=0.5)",
        nn.GRU(3, 4, bias=False, reset_after=False): "GRU(3, 4, reset_after=False, bias=False)",
        nn.LSTMCell(3, 4): "LSTMCell(3, 4)",
        nn.Dropout(0.25): "Dropout(0.25)",
        nn.DotAttention(): "DotAttention()",
        nn.CrossEntropyLoss(): "CrossEntropyLoss()",
    }.items():
        assert repr(layer) == form


def test_an_error_names_the_layer_by_its_path():
    class Model(nn.Module):
        def __init__(self):
            self.encoder = Attentive()

        def forward(self, ids):
            return self.encoder(ids)

    model = Model()
    model.encoder.layers[1][0].weight.data = normal(3, 7)
    with pytest.raises(ValueError, match=r"^linear in Model\.encoder\.layers\.1\.0: x has 3 features \(2, 3\), "):
        model(np.array([1, 2]))


def test_modules_of_a_list_within_a_list_are_named_in_full():
    inner = nn.ModuleList([nn.Linear(2, 2)])
    model = nn.Module()
    model.blocks = nn.ModuleList([inner])
    inner.append(nn.Linear(2, 2))  # afterwards
    y = inner[1](normal(1, 2))
    assert y.creator.describe().startswith("linear in blocks.0.1 (")


# --- initial values ---------------------------------------------------------------------------------------------------

MANY = (400, 250)


def filled(initialise, *args, dtype=np.float32):
    parameter = nn.Parameter(np.full(MANY, np.nan, dtype))
    array = parameter.data
    initialise(parameter, *args)
    assert parameter.data is array
    assert parameter.dtype == dtype
    return array


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_normal_has_its_mean_and_deviation(dtype):
    values = filled(nn.init.normal_, 3.0, dtype=dtype)
    assert abs(values.mean()) < 0.05
    assert values.std() == pytest.approx(3, rel=0.01)
    assert np.mean(np.abs(values) < 3) == pytest.approx(0.683, abs=0.01)


def test_uniform_fills_its_interval():
    values = filled(nn.init.uniform_, 0.5)
    assert values.min() >= -0.5
    assert values.max() <= 0.5
    assert abs(values.mean()) < 0.01
    assert values.std() == pytest.approx(0.5 / math.sqrt(3), rel=0.01)


def test_fan_in_normal_keeps_the_size_of_what_goes_through():
    values = filled(nn.init.fan_in_normal_)
    assert values.std() == pytest.approx(1 / math.sqrt(MANY[1]), rel=0.01)


def test_orthogonal_keeps_lengths_gate_by_gate():
    parameter = nn.Parameter(np.empty((4 * 6, 6), np.float32))
    nn.init.orthogonal_(parameter)
    for gate in np.split(parameter.data, 4):
        np.testing.assert_allclose(gate @ gate.T, np.eye(6), atol=1e-6)
    assert not np.allclose(parameter.data[:6], parameter.data[6:12])


@pytest.mark.parametrize("shape", [(3, 2), (2, 4), (4,)])
def test_orthogonal_refuses_what_is_not_made_of_squares(shape):
    with pytest.raises(ValueError, match=rf"orthogonal_: .* is needed, not {re.escape(str(shape))}"):
        nn.init.orthogonal_(nn.Parameter(np.empty(shape, np.float32)))


def test_zeros_are_zeros():
    assert (filled(nn.init.zeros_) == 0).all()


def test_initial_values_follow_the_seed():
    tn.manual_seed(3)
    first = Attentive().state_dict()
    second = Attentive().state_dict()
    tn.manual_seed(3)
    np.testing.assert_equal(Attentive().state_dict(), first)
    assert not np.array_equal(first["embedding.weight"], second["embedding.weight"])


@pytest.mark.parametrize(
    ("make_layer", "bound"),
    [
        (lambda: nn.Linear(100, 50), 0.1),
        (lambda: nn.LSTM(3, 25, peepholes=True), 0.2),
        (lambda: nn.GRUCell(3, 25), 0.2),
    ],
    ids=["Linear", "LSTM", "GRUCell"],
)
def test_layers_start_uniform_as_in_pytorch(make_layer, bound):
    for parameter in make_layer().parameters():
        assert parameter.dtype == np.float32
        assert np.abs(parameter.data).max() <= bound
        assert parameter.data.std() == pytest.approx(bound / math.sqrt(3), rel=0.25)


def test_an_embedding_starts_standard_normal():
    weight = nn.Embedding(100, 50).weight
    assert weight.dtype == np.float32
    assert weight.data.std() == pytest.approx(1, rel=0.05)


# --- layers -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("leading", [(), (2,), (2, 3), (0,)])
@pytest.mark.parametrize("bias", [True, False])
def test_linear_maps_the_last_axis(leading, bias):
    layer = nn.Linear(4, 5, bias=bias)
    x = normal(*leading, 4)
    expected = x @ layer.weight.data.T + (layer.bias.data if bias else 0)
    y = layer(x)
    assert y.shape == (*leading, 5)
    np.testing.assert_allclose(y.data, expected, rtol=1e-5, atol=1e-6)
    assert len(list(layer.parameters())) == 1 + bias


def test_an_embedding_looks_rows_up_and_its_gradient_is_row_sparse():
    layer = nn.Embedding(5, 3)
    ids = np.array([[1, 4], [1, 0]])
    y = layer(ids)
    np.testing.assert_array_equal(y.data, layer.weight.data[ids])
    y.sum().backward()
    assert isinstance(layer.weight.grad, RowSparse)
    np.testing.assert_array_equal(layer.weight.grad.to_dense(), [[1] * 3, [2] * 3, [0] * 3, [0] * 3, [1] * 3])


def test_a_tied_table_gets_the_sum_of_both_gradients():
    model = Attentive().eval()
    ids = np.array([1, 2])
    model(ids).sum().backward()
    tied = model.embedding.weight.grad
    model.out.weight = nn.Parameter(model.embedding.weight.data.copy())
    model.zero_grad()
    model(ids).sum().backward()
    np.testing.assert_allclose(tied, model.embedding.weight.grad.to_dense() + model.out.weight.grad, rtol=1e-5)


def test_attention_without_keys_gives_zeros():
    query, key = (Variable(normal(2, n, 4), requires_grad=True) for n in (3, 0))
    context, weights = nn.functional.attention(query, key, key)
    np.testing.assert_array_equal(context.data, np.zeros((2, 3, 4)))
    assert weights.shape == (2, 3, 0)
    context.sum().backward()
    np.testing.assert_array_equal(query.grad, np.zeros((2, 3, 4)))
    assert key.grad.shape == (2, 0, 4)


@pytest.mark.parametrize(("features", "outputs"), [(4, 0), (0, 5), (0, 0)])
def test_a_linear_map_without_features_or_outputs_has_gradients_as_any(features, outputs):
    shapes = (2, 3, features), (outputs, features), (outputs,)
    x, weight, bias = (Variable(normal(*shape), requires_grad=True) for shape in shapes)
    nn.functional.linear(x, weight, bias).sum().backward()
    assert (x.grad.shape, weight.grad.shape) == shapes[:2]
    np.testing.assert_array_equal(bias.grad, np.full(outputs, 6))


@pytest.mark.parametrize(("shape", "axes"), [(3, (3,)), (np.int64(3), (3,)), ((2, 3), (2, 3)), ([2, 3], (2, 3))])
def test_layer_norm_takes_any_shape(shape, axes):
    layer = nn.LayerNorm(shape)
    assert layer.normalized_shape == layer.weight.shape == axes
    assert all(type(size) is int for size in layer.normalized_shape)


def test_dot_attention_does_not_scale_and_has_the_keys_as_values():
    query, keys = normal(2, 3, 4, dtype=np.float64), normal(2, 5, 4, dtype=np.float64, seed=1)
    context, weights = nn.DotAttention()(query, keys)
    scores = np.exp(query @ keys.swapaxes(1, 2))
    expected = scores / scores.sum(axis=-1, keepdims=True)
    np.testing.assert_allclose(weights, expected)
    np.testing.assert_allclose(context, expected @ keys)
    assert list(nn.DotAttention().parameters()) == []


def test_cross_entropy_loss_is_the_function_with_its_ignored_target():
    logits, targets = normal(3, 4), np.array([1, 0, 3])
    assert nn.CrossEntropyLoss()(logits, targets) == F.cross_entropy(logits, targets)
    assert nn.CrossEntropyLoss(ignore_index=0)(logits, targets) == F.cross_entropy(logits[[0, 2]], targets[[0, 2]])


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_zeroes_its_share_and_keeps_the_mean(p):
    x = Variable(np.ones((300, 300), np.float32), requires_grad=True)
    y = nn.Dropout(p)(x)
    assert y.dtype == np.float32
    assert np.unique(y.data).tolist() == [0, np.float32(1 / (1 - p))]
    assert np.mean(y.data == 0) == pytest.approx(p, abs=0.01)
    assert y.data.mean() == pytest.approx(1, rel=0.03)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad, y.data)  # the same mask


@pytest.mark.parametrize("layer", [nn.Dropout(0.5).eval(), nn.Dropout(0.0)])
def test_without_dropout_x_itself_comes_back_and_no_number_is_drawn(layer):
    x = Variable(normal(3, 3))
    state = backend.generator().bit_generator.state
    assert layer(x) is x
    assert backend.generator().bit_generator.state == state


def test_dropout_draws_from_the_stream_of_the_library():
    x = np.ones((4, 5), np.float32)
    tn.manual_seed(1)
    first, second = nn.Dropout()(x), nn.Dropout()(x)
    assert not np.array_equal(first, second)
    tn.manual_seed(1)
    np.testing.assert_array_equal(nn.Dropout()(x), first)
    tn.manual_seed(1)
    keep = backend.generator().random(x.shape, dtype=np.float32) >= 0.5
    np.testing.assert_array_equal(first != 0, keep)


@pytest.mark.parametrize("p", [-0.1, 1.0, 1.5, math.nan])
def test_a_probability_that_makes_no_sense_is_refused(p):
    with pytest.raises(ValueError, match=rf"Dropout: p must lie in \[0, 1\), not {p}"):
        nn.Dropout(p)
    with pytest.raises(ValueError, match=rf"dropout: p must lie in \[0, 1\), not {p}"):
        F.dropout(normal(2), p)


# --- what is refused, and how that is said ----------------------------------------------------------------------------


def shape_error(function, argument, came, needed):
    return f"{function}: {argument} has the shape {came}; {needed} is needed"


LSTM_ARGUMENTS = {
    "x": (2, 5, 3), "h_0": (2, 4), "c_0": (2, 4), "weight_ih": (16, 3), "weight_hh": (16, 4), "bias_ih": (16,),
    "bias_hh": (16,),
}  # fmt: skip


@pytest.mark.parametrize(
    ("argument", "came", "needed"),
    [
        ("x", (5, 3), "(N, T, D)"),
        ("weight_ih", (12, 3), (16, 3)),
        ("weight_hh", (12, 4), (16, 4)),
        ("bias_ih", (4,), (16,)),
        ("bias_hh", (16, 1), (16,)),
        ("h_0", (1, 2, 4), (2, 4)),
        ("c_0", (2, 3), (2, 4)),
        ("mask", (2, 4), (2, 5)),
    ],
)
def test_lstm_names_the_argument_whose_shape_is_wrong(argument, came, needed):
    shapes = {**LSTM_ARGUMENTS, argument: came}
    mask = np.ones(came, bool) if shapes.pop("mask", None) else None
    x, h, c, *weights = (np.ones(shape, np.float32) for shape in shapes.values())
    with pytest.raises(ValueError, match=re.escape(shape_error("lstm", argument, came, needed))):
        F.lstm(x, (h, c), *weights, mask)


def test_lstm_needs_a_step():
    with pytest.raises(ValueError, match=r"lstm in LSTM: x has no steps \(T = 0\)"):
        nn.LSTM(3, 4)(normal(2, 0, 3))


@pytest.mark.parametrize(
    ("query", "key", "value", "message"),
    [
        ((4,), (4,), (4,), "attention: query (4,), key (4,) and value (4,) must have the same number of axes"),
        ((2, 3, 4), (3, 4), (3, 4), "attention: query (2, 3, 4), key (3, 4) and value (3, 4) must have the same"),
        ((2, 3, 4), (2, 5, 6), (2, 5, 6), "attention: key (2, 5, 6) does not fit query (2, 3, 4)"),
        ((2, 3, 4), (1, 5, 4), (1, 5, 4), "attention: key (1, 5, 4) does not fit query (2, 3, 4)"),
        ((2, 3, 4), (2, 5, 4), (2, 3, 4), "attention: value (2, 3, 4) does not fit key (2, 5, 4)"),
    ],
)
def test_attention_names_the_shapes_that_do_not_fit(query, key, value, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        F.attention(np.ones(query), np.ones(key), np.ones(value))


def test_attention_names_the_shape_that_a_mask_needs():
    x = np.ones((2, 3, 4))
    with pytest.raises(ValueError, match=re.escape(shape_error("attention", "mask", (2, 4), (2, 3, 3)))):
        F.attention(x, x, x, np.ones((2, 4), bool))


@pytest.mark.parametrize("mask", [np.ones((2, 3)), np.ones((2, 3), int), Variable(np.ones((2, 3))), [[1, 1, 1]] * 2])
def test_a_mask_that_is_not_boolean_is_refused(mask):
    with pytest.raises(TypeError, match=r"lstm in LSTM: mask must be boolean, not (float|int)64"):
        nn.LSTM(3, 4)(normal(2, 3, 3), mask=mask)
    with pytest.raises(TypeError, match=r"attention: mask must be boolean, not (float|int)64"):
        F.attention(np.ones((2, 3)), np.ones((3, 3)), np.ones((3, 3)), mask)


@pytest.mark.parametrize("mask", [[[True, False], [True, True]], Variable(np.array([[True, False], [True, True]]))])
def test_a_mask_may_be_a_list_or_a_variable(mask):
    layer, x = nn.LSTM(3, 4), normal(2, 2, 3)
    expected, _ = layer(x, mask=np.array([[True, False], [True, True]]))
    np.testing.assert_array_equal(layer(x, mask=mask)[0].data, expected.data)


@pytest.mark.parametrize(("ids", "wrong"), [([5], 5), ([[0, 1], [7, 2]], 7), ([-1], -1)])
def test_an_id_outside_the_vocabulary_is_named(ids, wrong):
    message = rf"^embedding in Embedding: id {wrong} is outside the vocabulary of 5 \(ids go from 0 to 4\)$"
    with pytest.raises(IndexError, match=message):
        nn.Embedding(5, 3)(np.array(ids))


def test_ids_and_targets_are_integers():
    with pytest.raises(TypeError, match=r"^embedding in Embedding: ids must be integers, not float32$"):
        nn.Embedding(5, 3)(np.ones(2, np.float32))
    with pytest.raises(TypeError, match=r"^cross_entropy: targets must be integer ids, not float64$"):
        F.cross_entropy(normal(2, 3), [0.0, 1.0])


@pytest.mark.parametrize("wrong", [3, -1, -100])
def test_a_target_that_is_no_class_is_named(wrong):
    message = rf"^cross_entropy: target {wrong} is outside the 3 classes of the logits \(and is not ignore_index=-7\)$"
    with pytest.raises(IndexError, match=message):
        F.cross_entropy(normal(2, 3), np.array([-7, wrong]), ignore_index=-7)


@pytest.mark.parametrize("targets", [(3,), (2, 1), ()])
def test_targets_need_the_shape_of_the_logits_without_classes(targets):
    message = f"cross_entropy: targets have the shape {targets}; logits of (2, 3) need (2,)"
    with pytest.raises(ValueError, match=re.escape(message)):
        F.cross_entropy(normal(2, 3), np.zeros(targets, int))


def test_linear_names_the_layer_and_the_shapes_that_do_not_fit():
    with pytest.raises(ValueError, match=r"^linear in Linear: x has 3 features \(2, 3\), weight \(5, 4\) needs 4$"):
        nn.Linear(4, 5)(normal(2, 3))
    with pytest.raises(ValueError, match=r"^linear: x has no features \(\), weight \(5, 4\) needs 4$"):
        F.linear(np.float32(1), normal(5, 4))
    with pytest.raises(ValueError, match=r"^linear: weight has the shape \(4,\); \(out, in\) is needed$"):
        F.linear(normal(2, 4), normal(4))
    with pytest.raises(ValueError, match=r"^linear: bias has the shape \(1,\); \(5,\) is needed$"):
        F.linear(normal(2, 4), normal(5, 4), normal(1))


def test_an_lstm_blames_an_input_whose_features_do_not_fit():
    class Model(nn.Module):
        def __init__(self):
            self.lstm = nn.LSTM(3, 4)

        def forward(self, x):
            return self.lstm(x)

    message = "lstm in Model.lstm: x has 6 features (2, 5, 6), weight_ih (16, 3) needs 3"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Model()(normal(2, 5, 6))


def test_a_list_in_the_place_of_an_array_is_named():
    x = normal(2, 3, 4)
    for call, argument in (
        (lambda: nn.Linear(2, 3)([[1.0, 2.0]]), "linear in Linear: x"),
        (lambda: nn.LSTM(2, 3)([[[1.0, 2.0]]]), "lstm in LSTM: x"),
        (lambda: nn.DotAttention()(x, x.tolist()), "attention in DotAttention: key"),
        (lambda: nn.Dropout()([1.0]), "dropout in Dropout: x"),
        (lambda: nn.CrossEntropyLoss()([[1.0, 2.0]], [1]), "cross_entropy in CrossEntropyLoss: logits"),
    ):
        with pytest.raises(TypeError, match=f"^{argument} must be an array or a Variable, not list$"):
            call()


def test_kernels_refuse_arguments_of_different_dtypes():
    x, key = normal(2, 5, 3), normal(2, 4, 3, dtype=np.float64)
    with pytest.raises(
        TypeError, match=r"^lstm in LSTM: .* share one floating dtype, but are x float64, h_0 float32, "
    ):
        nn.LSTM(3, 4)(x.astype(float))
    with pytest.raises(TypeError, match=r"share one floating dtype, but are query float32, key float64, value float64"):
        F.attention(x, key, key)
    with pytest.raises(TypeError, match="share one floating dtype, but are query int64"):
        F.attention(*[np.ones((2, 3), int)] * 3)
    with pytest.raises(TypeError, match=r"^cross_entropy: logits must be of a floating dtype, not int64$"):
        F.cross_entropy(np.ones((2, 3), int), [0, 1])


def test_an_operation_of_a_functional_knows_the_line_that_called_it():
    x, w = normal(2, 3), nn.Parameter(normal(5, 3))
    for y in (F.linear(x, w), F.embedding([1, 2], w), F.cross_entropy(F.linear(x, w), [0, 1])):
        assert f"{__file__}:" in y.creator.describe()


# --- agreement with PyTorch -------------------------------------------------------------------------------------------


def torch_of_one_thread():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    return torch


@pytest.fixture
def torch():
    return torch_of_one_thread()


@pytest.fixture(params=["file", "torch"], scope="module")
def golden(request):
    """What PyTorch computes: from the file that tests/golden/make.py wrote, and, where PyTorch is, computed now."""
    if request.param == "torch":
        torch_of_one_thread()
        return make.golden()
    return safetensors.numpy.load_file(make.FILE)


class TestAgreementWithPyTorch:
    def assert_agreement(self, golden, thing, inputs, outputs):
        """Compare outputs, and what comes back to the inputs when PyTorch's gradients of the outputs are sent back."""
        for name, y in outputs.items():
            np.testing.assert_allclose(y.data.squeeze(), golden[f"{thing}.{name}"].squeeze(), rtol=1e-5, atol=1e-5)
            assert y.dtype == np.float32
        total = sum((y * golden[f"{thing}.grad.{name}"].reshape(y.shape)).sum() for name, y in outputs.items())
        total.backward()
        for name, x in inputs.items():
            expected = golden[f"{thing}.grad.{name}"].reshape(x.shape)
            np.testing.assert_allclose(np.asarray(x.grad), expected, rtol=1e-5, atol=1e-5, err_msg=name)

    def leaf(self, golden, name):
        return Variable(golden[name].copy(), requires_grad=True)

    def load(self, golden, thing, layer):
        layer.load_state_dict({name: golden[f"{thing}.{name}"] for name in layer.state_dict()})
        return dict(layer.named_parameters())

    def test_the_file_holds_what_pytorch_computes(self, torch):
        file, now = safetensors.numpy.load_file(make.FILE), make.golden()
        assert file.keys() == now.keys()
        for name, values in now.items():
            assert file[name].dtype == values.dtype
            np.testing.assert_allclose(file[name], values, rtol=1e-5, atol=1e-6, err_msg=name)

    def test_the_file_is_small(self):
        assert make.FILE.stat().st_size < 100_000

    def test_linear(self, golden):
        layer = nn.Linear(4, 5)
        inputs = {"x": self.leaf(golden, "linear.x"), **self.load(golden, "linear", layer)}
        self.assert_agreement(golden, "linear", inputs, {"y": layer(inputs["x"])})

    def test_embedding(self, golden):
        layer = nn.Embedding(6, 4)
        inputs = self.load(golden, "embedding", layer)
        self.assert_agreement(golden, "embedding", inputs, {"y": layer(golden["embedding.ids"])})

    def test_lstm(self, golden):
        layer = nn.LSTM(4, 6)
        inputs = {
            "x": self.leaf(golden, "lstm.x"),
            "h_0": self.leaf(golden, "lstm.h_0"),
            "c_0": self.leaf(golden, "lstm.c_0"),
            **self.load(golden, "lstm", layer),
        }
        hs, (h, c) = layer(inputs["x"], (inputs["h_0"], inputs["c_0"]))
        self.assert_agreement(golden, "lstm", inputs, {"hs": hs, "h_n": h, "c_n": c})

    @pytest.mark.parametrize(
        ("name", "make_layer"),
        [
            ("rnn", lambda: nn.RNN(3, 4, 2, nonlinearity="relu", bidirectional=True)),
            ("gru", lambda: nn.GRU(3, 4, 2, bidirectional=True)),
            ("stacked_lstm", lambda: nn.LSTM(3, 4, 2, bidirectional=True, bias=False)),
        ],
    )
    def test_two_layers_in_two_directions(self, golden, name, make_layer):
        layer = make_layer()
        inputs = {part: self.leaf(golden, f"{name}.{part}") for part in ("x", "h_0")}
        outputs, weights = {}, self.load(golden, name, layer)
        if name == "stacked_lstm":
            inputs["c_0"] = self.leaf(golden, f"{name}.c_0")
            outputs["hs"], (outputs["h_n"], outputs["c_n"]) = layer(inputs["x"], (inputs["h_0"], inputs["c_0"]))
        else:
            outputs["hs"], outputs["h_n"] = layer(inputs["x"], inputs["h_0"])
        self.assert_agreement(golden, name, inputs | weights, outputs)

    def test_cross_entropy_with_ignored_targets(self, golden):
        logits = self.leaf(golden, "cross_entropy.logits")
        loss = F.cross_entropy(logits, golden["cross_entropy.targets"], ignore_index=-1)
        self.assert_agreement(golden, "cross_entropy", {"logits": logits}, {"loss": loss})

    def test_attention_with_a_mask(self, golden):
        inputs = {name: self.leaf(golden, f"attention.{name}") for name in ("query", "key", "value")}
        context, _ = F.attention(*inputs.values(), golden["attention.mask"])
        self.assert_agreement(golden, "attention", inputs, {"context": context})

    @pytest.mark.parametrize(
        ("rule", "make_optimizer"),
        [
            ("SGD", lambda p: optim.SGD(p, lr=0.1)),
            ("Momentum", lambda p: optim.Momentum(p, lr=0.1)),
            ("Adam", lambda p: optim.Adam(p, lr=0.01)),
            ("AdamW", lambda p: optim.AdamW(p, lr=0.01, weight_decay=0.1)),
        ],
    )
    def test_an_optimizer_takes_the_same_path(self, golden, rule, make_optimizer):
        parameter = nn.Parameter(golden["optim.start"].copy())
        optimizer = make_optimizer([parameter])
        for gradient, expected in zip(golden["optim.gradients"], golden[f"optim.{rule}"], strict=True):
            parameter.grad = gradient.copy()
            optimizer.step()
            np.testing.assert_allclose(parameter.data, expected, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize(
        ("ours", "theirs", "arguments"),
        [
            (nn.Linear, lambda torch: torch.nn.Linear(4, 6), (4, 6)),
            (nn.Embedding, lambda torch: torch.nn.Embedding(4, 6), (4, 6)),
            (nn.LSTM, lambda torch: torch.nn.LSTM(4, 6, batch_first=True), (4, 6)),
            (nn.GRU, lambda torch: torch.nn.GRU(4, 6, 2, batch_first=True), (4, 6, 2)),
            (nn.RNN, lambda torch: torch.nn.RNN(4, 6, 2, batch_first=True), (4, 6, 2)),
        ],
        ids=["Linear", "Embedding", "LSTM", "GRU", "RNN"],
    )
    @pytest.mark.parametrize("through_a_file", [False, True])
    def test_a_state_dict_of_pytorch_loads_as_it_is(self, torch, ours, theirs, arguments, through_a_file, tmp_path):
        import safetensors.torch

        layer, layer_of_torch = ours(*arguments), theirs(torch)
        state = layer_of_torch.state_dict()
        if through_a_file:
            safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
            layer.load_state_dict(safetensors.numpy.load_file(tmp_path / "weights.safetensors"))
        else:
            layer.load_state_dict(state)
        assert list(layer.state_dict()) == list(state)
        x = np.array([[0, 3, 1]]) if ours is nn.Embedding else normal(2, 3, 4)
        y, y_of_torch = layer(x), layer_of_torch(torch.from_numpy(x))
        y, y_of_torch = (r[0] if isinstance(r, tuple) else r for r in (y, y_of_torch))
        np.testing.assert_allclose(y.data, y_of_torch.detach().numpy(), rtol=1e-5, atol=1e-6)
        (y * y).sum().backward()
        (y_of_torch * y_of_torch).sum().backward()
        for name, parameter in layer_of_torch.named_parameters():
            gradient = np.asarray(getattr(layer, name).grad)
            np.testing.assert_allclose(gradient, parameter.grad.numpy(), rtol=1e-4, atol=1e-5, err_msg=name)

    def test_our_state_dict_loads_into_pytorch(self, torch, tmp_path):
        import safetensors.torch

        layer = nn.LSTM(4, 6)
        safetensors.numpy.save_file(layer.state_dict(), tmp_path / "weights.safetensors")
        layer_of_torch = torch.nn.LSTM(4, 6, batch_first=True)
        layer_of_torch.load_state_dict(safetensors.torch.load_file(tmp_path / "weights.safetensors"))
        x = normal(2, 3, 4)
        expected, _ = layer_of_torch(torch.from_numpy(x))
        np.testing.assert_allclose(layer(x)[0].data, expected.detach().numpy(), rtol=1e-5, atol=1e-6)


# --- layer normalisation ----------------------------------------------------------------------------------------------


def test_layer_norm_gives_rows_of_mean_0_and_variance_1():
    x = np.random.default_rng(0).normal(3, 5, (4, 6, 8)).astype(np.float32)
    y = nn.LayerNorm((6, 8))(x).data
    np.testing.assert_allclose(y.mean(axis=(1, 2)), 0, atol=1e-6)
    np.testing.assert_allclose(y.var(axis=(1, 2)), 1, rtol=1e-4)
    assert y.dtype == np.float32


def test_layer_norm_in_float16_does_not_overflow():
    x = (100 * np.random.default_rng(0).standard_normal((2, 4096))).astype(np.float16)
    y = nn.functional.layer_norm(x, (4096,))
    assert y.dtype == np.float16
    np.testing.assert_allclose(y.astype(np.float64).std(axis=1), 1, rtol=1e-2)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_layer_norm_of_nothing_is_nothing(shape):
    layer = nn.LayerNorm(shape[1])
    x = tn.Variable(np.zeros(shape, np.float32), requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.shape == shape
    np.testing.assert_array_equal(layer.weight.grad, np.zeros(shape[1]))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.ones((2, 3), np.float32), (4,)), ValueError, r"x has the shape \(2, 3\); it must end in \(4,\)"),
        ((np.ones((2, 3), np.float32), ()), ValueError, "of one axis or more"),
        ((np.ones(3, np.float32), (3,), np.ones(2, np.float32)), ValueError, r"weight has the shape \(2,\)"),
        ((np.ones(3, np.float32), (3,), np.ones(3)), TypeError, "share one floating dtype"),
        (([1.0], (1,)), TypeError, "x must be an array or a Variable"),
        ((np.ones(3, np.float32), (3,), None, None, -1.0), ValueError, "eps must not be negative"),
    ],
)
def test_layer_norm_refuses_what_does_not_fit(arguments, error, message):
    with pytest.raises(error, match=f"^layer_norm: .*{message}"):
        nn.functional.layer_norm(*arguments)


def test_layer_norm_names_its_settings():
    assert repr(nn.LayerNorm(4, bias=False)) == "LayerNorm((4,), eps=1e-05, bias=False)"


def test_named_children_are_the_modules_directly_inside_in_their_order():
    model = nn.Sequential(nn.Sequential(nn.Linear(1, 1)), tn.tanh, nn.Linear(1, 2))
    assert list(model.named_children()) == [("0", model[0]), ("2", model[2])]
    assert list(model[2].named_children()) == []


# --- what is refused --------------------------------------------------------------------------------------------------


def test_a_list_of_modules_takes_modules_only():
    with pytest.raises(TypeError, match=r"^ModuleList takes modules, not <function tanh.*Sequential takes functions"):
        nn.ModuleList([tn.tanh])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: nn.Linear(3, -1), "Linear: out_features must be at least 0, not -1"),
        (lambda: nn.Embedding(-2, 3), "Embedding: num_embeddings must be at least 0, not -2"),
        (lambda: nn.Embedding(2, -3), "Embedding: embedding_dim must be at least 0, not -3"),
    ],
)
def test_a_negative_size_is_named(make, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        make()


def test_layers_and_weights_without_inputs_are_refused():
    with pytest.raises(ValueError, match=r"^Linear: in_features must be at least 1, not 0$"):
        nn.Linear(0, 3)
    for shape in ((), (3, 0)):
        with pytest.raises(ValueError, match=r"^fan_in_normal_: .* with in above 0 is needed"):
            nn.init.fan_in_normal_(nn.Parameter(np.zeros(shape, np.float32)))
    with pytest.raises(ValueError, match=r"^orthogonal_: .* with n above 0 is needed"):
        nn.init.orthogonal_(nn.Parameter(np.zeros((0, 0), np.float32)))


def test_scores_have_classes_and_what_is_dropped_is_floating():
    with pytest.raises(ValueError, match=r"^cross_entropy: logits have no axes"):
        nn.functional.cross_entropy(np.array(1.0), np.array(0))
    with pytest.raises(TypeError, match=r"^dropout: x must be of a floating dtype, not int64$"):
        nn.functional.dropout(np.arange(5), 0.5)


# --- precision --------------------------------------------------------------------------------------------------------


def test_no_float64_in_a_float32_model(monkeypatch):
    """Every result of every operation, forward, backward by the kernels, and in the graph of the second derivative."""
    apply, seen = tn.Function.__call__, {}

    def watched(self, *inputs):
        y = apply(self, *inputs)
        for out in y if isinstance(y, tuple) else (y,):
            if out.dtype.kind == "f":
                seen.setdefault(out.dtype, set()).add(self.name)
        return y

    monkeypatch.setattr(tn.Function, "__call__", watched)
    embed, drop, norm = nn.Embedding(9, 8), nn.Dropout(0.5), nn.LayerNorm(8)
    layers = [nn.RNN(8, 8), nn.LSTM(8, 4, 2, dropout=0.5, bidirectional=True, peepholes=True), nn.GRU(8, 8)]
    attention, out = nn.DotAttention(), nn.Linear(16, 9)
    parts = nn.ModuleList([embed, norm, *layers, out])
    ids = np.random.default_rng(0).integers(9, size=(3, 5))
    h = drop(embed(ids))
    for layer in layers:
        h, _ = layer(h)
    h = norm(h)
    context, _ = attention(h, h)
    loss = nn.functional.cross_entropy(out(tn.concatenate((context, h), axis=2)), ids)
    parameters = list(parts.parameters())
    plain = tn.grad(loss, parameters, retain_graph=True)
    gradients = tn.grad(loss, parameters, create_graph=True)
    second = tn.grad(sum((g * g).sum() for g in gradients), parameters)
    assert {g.dtype for g in (*plain, *gradients, *second)} == {np.dtype(np.float32)}
    assert list(seen) == [np.float32], seen
