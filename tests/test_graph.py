"""Drawings: what is drawn of a graph, and how it gets onto the disk where this or that renderer is missing."""

import builtins
import errno
import html
import os
import re
import subprocess

import graphviz
import numpy as np
import pytest

import tinygrad_nlp as tn
from tinygrad_nlp import Function, Variable, nn
from tinygrad_nlp.autograd import graph
from tinygrad_nlp.autograd.graph import render
from tinygrad_nlp.nn import fused

FUSED, OPERATION, PARAMETER, LEAF, RESULT = "#fde7c7", "white", "#d5e8d4", "#dae8fc", "#f8cecc"
CONSTANT, BACKWARD, FAILED = "#f5f5f5", "#2a6fdb", "#d00000"


def leaf(*shape, name=None):
    return Variable(np.ones(shape, np.float32), requires_grad=True, name=name)


class Picture:
    """DOT text, read back.

    Attributes:
        text: all of it.
        frames: for each frame, as a path of labels, the labels of the nodes in it.
        fill, color: inside and rim of what has each label.
        edges: (label of the tail, label of the head, label of the edge, whether it is dashed).
        settings: the attributes of the graph.
    """

    def __init__(self, drawing):
        self.text = str(drawing.dot)
        self.frames, self.fill, self.color, self.edges, self.settings = {}, {}, {}, [], {}
        labels, path = {}, []
        for line in map(str.strip, self.text.splitlines()):
            attributes = {name: _text(value) for name, value in re.findall(r'(\w+)=("(?:[^"\\]|\\.)*"|[^\s\]]+)', line)}
            if line.startswith("subgraph"):
                path.append(None)
            elif line == "}":
                path = path[:-1]
            elif path and path[-1] is None:
                path[-1] = attributes["label"]
                assert tuple(path) not in self.frames, "a frame is drawn twice"
                self.frames[tuple(path)] = []
            elif edge := re.match(r"(\w+) -> (\w+)", line):
                tail, head = (labels[name] for name in edge.groups())
                label = attributes.get("label", "").strip()
                self.edges.append((tail, head, label, attributes.get("style") == "dashed"))
            elif node := re.match(r"(\w+) \[label=", line):
                if node[1] in ("graph", "node", "edge"):
                    continue
                labels[node[1]] = attributes["label"]
                self.frames.setdefault(tuple(path), []).append(attributes["label"])
                self.fill[attributes["label"]] = attributes.get("fillcolor")
                self.color[attributes["label"]] = attributes.get("color")
            elif "=" in line and not line.startswith(("node", "edge")):
                self.settings |= attributes

    def between(self, tail, head):
        return [(label, dashed) for ours, theirs, label, dashed in self.edges if (ours, theirs) == (tail, head)]


def _text(value):
    return value[1:-1].replace('\\"', '"') if value.startswith('"') else value


def picture(*args, **options):
    return Picture(tn.draw(*args, **options))


# --- what is drawn ----------------------------------------------------------------------------------------------------


class TwoLayerNet(nn.Module):
    def __init__(self):
        self.hidden = nn.Linear(2, 10)
        self.out = nn.Linear(10, 3)

    def forward(self, x, t):
        return nn.functional.cross_entropy(self.out(tn.sigmoid(self.hidden(x))), t)


def test_a_small_model_is_drawn_to_the_letter():
    model = TwoLayerNet()
    loss = model(np.zeros((5, 2), np.float32), np.zeros(5, int))
    loss.name = "loss"
    assert (
        str(tn.draw(loss).dot).replace(render._FONT, "FONT")
        == r"""digraph {
	graph [fontname="FONT" fontsize=10 labeljust=l nodesep=0.22 rankdir=BT ranksep=0.3]
	node [fontname="FONT" fontsize=11 height=0.28 margin="0.1,0.04" width=0.3]
	edge [arrowsize=0.6 fontcolor="#666666" fontname="FONT" fontsize=8]
	n4 [label="x\n5×2" color="#999999" fillcolor="#f5f5f5" margin="0.02,0.01" shape=ellipse style=filled]
	n10 [label=loss color="#b85450" fillcolor="#f8cecc" margin="0.02,0.01" shape=ellipse style=filled]
	subgraph cluster_1 {
		color="#aaaaaa" fontcolor="#555555" label=TwoLayerNet labeljust=l labelloc=b style=rounded
		n1 [label="σ" fillcolor=white fixedsize=true shape=circle style=filled width=0.3]
		n3 [label=cross_entropy color="#d79b00" fillcolor="#fde7c7" shape=box style="rounded,filled"]
		n9 [label="targets\n5" color="#999999" fillcolor="#f5f5f5" margin="0.02,0.01" shape=ellipse style=filled]
		subgraph cluster_2 {
			color="#aaaaaa" fontcolor="#555555" label=hidden labeljust=l labelloc=b style=rounded
			n0 [label=linear fillcolor=white shape=box style="rounded,filled"]
			n5 [label="weight\n10×2" color="#82b366" fillcolor="#d5e8d4" margin="0.02,0.01" shape=ellipse style=filled]
			n6 [label="bias\n10" color="#82b366" fillcolor="#d5e8d4" margin="0.02,0.01" shape=ellipse style=filled]
		}
		subgraph cluster_3 {
			color="#aaaaaa" fontcolor="#555555" label=out labeljust=l labelloc=b style=rounded
			n2 [label=linear fillcolor=white shape=box style="rounded,filled"]
			n7 [label="weight\n3×10" color="#82b366" fillcolor="#d5e8d4" margin="0.02,0.01" shape=ellipse style=filled]
			n8 [label="bias\n3" color="#82b366" fillcolor="#d5e8d4" margin="0.02,0.01" shape=ellipse style=filled]
		}
	}
	n4 -> n0 [color="#999999"]
	n5 -> n0 [color="#999999"]
	n6 -> n0 [color="#999999"]
	n0 -> n1 [label=" 5×10"]
	n1 -> n2 [label=" 5×10"]
	n7 -> n2 [color="#999999"]
	n8 -> n2 [color="#999999"]
	n2 -> n3 [label=" 5×3"]
	n9 -> n3 [color="#999999"]
	n3 -> n10
}
"""
    )


def test_frames_are_nested_as_the_modules_are():
    class Outer(nn.Module):
        def __init__(self):
            self.inner = TwoLayerNet()
            self.scale = nn.Parameter(np.ones((1,), np.float32))

        def forward(self, x, t):
            return self.inner(x, t) * self.scale

    model = Outer()
    drawn = picture(model(np.zeros((5, 2), np.float32), np.zeros(5, int)))
    assert drawn.frames == {
        (): [r"x\n5×2", r"y\n1"],
        ("Outer",): ["×", r"scale\n1"],
        ("Outer", "inner"): ["σ", "cross_entropy", r"targets\n5"],
        ("Outer", "inner", "hidden"): ["linear", r"weight\n10×2", r"bias\n10"],
        ("Outer", "inner", "out"): ["linear", r"weight\n3×10", r"bias\n3"],
    }
    assert drawn.fill["cross_entropy"] == FUSED
    assert drawn.fill["σ"] == OPERATION
    assert drawn.fill[r"scale\n1"] == PARAMETER
    assert drawn.fill[r"y\n1"] == RESULT


def test_frames_whose_joined_names_are_alike_stay_apart():
    x = leaf(2)
    with tn.scope("a_b"):
        y = tn.tanh(x)
    with tn.scope("a"), tn.scope("b"):
        z = tn.exp(y)
    drawn = picture(z.sum())
    assert drawn.frames[("a_b",)] == ["tanh", r"leaf\n2"]
    assert drawn.frames[("a", "b")] == ["exp"]
    names = re.findall(r"subgraph (\S+)", drawn.text)
    assert len(names) == len(set(names)) == 3


def test_a_shared_leaf_is_drawn_once_in_the_frame_around_all_its_uses():
    class Tied(nn.Module):
        def __init__(self):
            self.embed = nn.Embedding(7, 3)
            self.out = nn.Linear(3, 7, bias=False)
            self.out.weight = self.embed.weight

        def forward(self, ids):
            return self.out(self.embed(ids))

    model = Tied()
    drawn = picture(model(np.array([1, 2])))
    assert drawn.frames[("Tied",)] == [r"weight\n7×3"]
    assert drawn.frames[("Tied", "embed")] == ["embedding"]
    assert drawn.between(r"weight\n7×3", "embedding") == drawn.between(r"weight\n7×3", "linear") == [("", False)]


def test_constants_are_drawn_where_they_were_saved_and_numbers_where_they_act():
    x = leaf(2, 3, name="x")
    drawn = picture((x + Variable(np.ones(3, np.float32))) * np.ones((2, 3), np.float32) / 4.0)
    assert drawn.frames == {(): ["+", "×", "÷ 4", r"x\n2×3", "2×3", r"y\n2×3"]}  # a sum saves nothing
    assert drawn.between("2×3", "×") == [("", False)]
    assert drawn.fill[r"x\n2×3"] == LEAF
    assert drawn.fill["2×3"] == CONSTANT


@pytest.mark.parametrize(
    ("calculate", "label"),
    [
        (lambda x: 2 - x, None),  # a difference saves nothing
        (lambda x: 2 * x, "× 2"),
        (lambda x: 2.5 / x, "2.5 ÷"),
        (lambda x: x**-2, "^ −2"),
        (lambda x: x * np.float32(0.1), "× 0.1"),
    ],
)
def test_numbers_stand_on_the_side_where_they_were_given(calculate, label):
    assert picture(calculate(leaf(2))).frames[()][0] == (label or "−")


def test_constants_are_called_as_the_arguments_are():
    drawn = picture(tn.linear(np.ones((5, 3), np.float32), leaf(2, 3, name="w")))
    assert drawn.frames[()] == ["linear", r"x\n5×3", r"w\n2×3", r"y\n5×2"]
    zeros = np.zeros((4, 3), np.float32)
    weights = leaf(12, 2), leaf(12, 3), leaf(12), leaf(12)
    hs, _, _ = fused.LSTM()(np.ones((4, 5, 2), np.float32), zeros, zeros, *weights)
    assert r"h, c\n4×3" in picture(hs).frames[()]


def test_what_a_function_was_made_with_is_drawn():
    class Model(nn.Module):
        def __init__(self):
            self.embed = nn.Embedding(7, 3)

        def forward(self, ids):
            return self.embed(ids)

    drawn = picture(Model()(np.array([[1, 2]])))
    assert r"ids\n1×2" in drawn.frames[()]  # outside: it comes from outside
    assert drawn.frames["Model", "embed"] == ["embedding", r"weight\n7×3"]


def test_a_leaf_whose_variable_is_gone_keeps_its_name_and_kind():
    x, w = leaf(4, name="x"), nn.Parameter(np.ones(4, np.float32))
    w.name = "w"
    y = tn.exp(x) + w
    del x, w
    drawn = picture(y)
    assert drawn.frames[()] == ["exp", "+", r"x\n4", r"w\n4", r"y\n4"]
    assert drawn.fill[r"w\n4"] == PARAMETER


def test_what_is_used_twice_has_two_arrows():
    x = leaf(3, name="x")
    assert picture(x * x).between(r"x\n3", "×") == [("", False)] * 2
    y = tn.exp(x)
    assert picture(y * y).between("exp", "×") == [("3", False)] * 2


def test_different_shapes_between_two_boxes_are_all_told():
    small, large = tn.split(leaf(5, name="x"), [2])
    with tn.scope("layer"):
        y = small.sum() + large.sum()
    assert picture(y, depth=0).between("split", "layer") == [("2", False), ("3", False)]


def test_a_transposed_matrix_is_a_mark_on_the_arrow():
    x, w = leaf(4, 3, name="x"), leaf(5, 3, name="w")
    drawn = picture(tn.matmul(x, tn.transpose(w)))
    assert drawn.frames[()] == ["matmul", r"x\n4×3", r"w\n5×3", r"y\n4×5"]
    assert drawn.between(r"w\n5×3", "matmul") == [("transposed", False)]
    assert "transpose" in picture(tn.transpose(w)).frames[()]  # there is nothing else to draw
    assert "transpose" in picture(tn.exp(tn.transpose(leaf(2, 3, 4), 1, 0, 2))).frames[()]


def test_a_function_of_several_outputs_is_one_box():
    first, second = tn.split(leaf(2, 6, name="x"), 2, axis=1)
    drawn = picture(tn.tanh(first) * second)
    assert drawn.frames[()].count("split") == 1
    assert drawn.between("split", "tanh") == drawn.between("split", "×") == [("2×3", False)]


def test_several_roots_share_one_graph():
    x = leaf(3, name="x")
    y = tn.exp(x)
    top, bottom = y.sum(), y.mean()
    top.name = "top"
    drawn = picture((top, bottom))
    assert drawn.frames[()] == ["exp", "Σ", "mean", r"x\n3", "top", "y"]
    assert drawn.between("exp", "Σ") == drawn.between("exp", "mean") == [("3", False)]
    assert drawn.between("Σ", "top") == drawn.between("mean", "y") == [("", False)]


def test_a_result_that_another_is_made_of_is_marked_too():
    y = tn.exp(leaf(3))
    y.name = "inner"
    drawn = picture((y, y.sum()))
    assert drawn.between("exp", r"inner\n3") == [("", False)]


# --- time -------------------------------------------------------------------------------------------------------------


def loop(steps, cell=lambda h, x: tn.tanh(h * x)):
    h = leaf(3)
    for t, x in enumerate(tn.unstack(leaf(steps, 3), axis=0)):
        with tn.scope(t):
            h = cell(h, x)
    return h


def test_the_steps_of_a_loop_are_drawn_once_with_their_number_and_what_flows_between_them_dashed():
    drawn = picture(loop(5))
    assert drawn.frames == {
        (): ["unstack", r"leaf\n5×3", r"leaf\n3", r"y\n3"],
        ("×5",): ["×", "tanh"],
    }
    assert drawn.between("unstack", "×") == [("3", False)]
    assert drawn.between("×", "tanh") == [("3", False)]
    assert drawn.between("tanh", "×") == [("3", True)]
    assert "constraint=false" in drawn.text


def test_a_loop_of_one_step_is_no_loop():
    assert picture(loop(1)).frames == {(): ["unstack", "×", "tanh", r"leaf\n1×3", r"leaf\n3", r"y\n3"]}


def test_all_steps_of_a_loop_are_drawn_where_that_is_asked_for():
    drawn = picture(loop(5), time="all")
    assert [frame for frame in drawn.frames if frame] == [(f"t = {t}",) for t in range(5)]
    assert drawn.frames["t = 3",] == ["×", "tanh"]
    assert drawn.between("tanh", "×") == [("3", False)] * 4


def test_the_ends_of_a_loop_are_drawn_where_that_is_asked_for():
    drawn = picture(loop(5), time="ends")
    assert drawn.frames == {
        (): ["unstack", "… 3 steps", r"leaf\n5×3", r"leaf\n3", r"y\n3"],
        ("t = 0",): ["×", "tanh"],
        ("t = 4",): ["×", "tanh"],
    }
    assert drawn.between("tanh", "… 3 steps") == drawn.between("… 3 steps", "×") == [("3", False)]
    assert drawn.between("… 3 steps", "… 3 steps") == []
    assert len(picture(loop(3), time="ends").frames) == 4  # three steps are no more than two and a note


def test_the_definition_of_the_lstm_is_drawn_as_one_step():
    drawn = picture(two_layers(steps=6, layers=1))
    assert sorted(drawn.frames["lstm", "×6"]) == sorted(
        ["linear", "linear", "+", "split", *["σ"] * 3, *["tanh"] * 2, *["×"] * 3, "+"]
    )
    assert {(tail, head) for tail, head, _, dashed in drawn.edges if dashed} == {("×", "linear"), ("+", "×")}  # h and c
    assert sum(dashed for *_, dashed in drawn.edges) == 2


def test_what_one_loop_hands_to_another_is_no_recurrence():
    h = leaf(3)
    for name in ("encoder", "decoder"):
        with tn.scope(name):
            for t in range(3):
                with tn.scope(t):
                    h = {"encoder": tn.tanh, "decoder": tn.exp}[name](h)
    drawn = picture(h)
    assert drawn.frames["encoder", "×3"] == ["tanh"]
    assert drawn.between("tanh", "exp") == [("3", False)]
    assert drawn.between("tanh", "tanh") == drawn.between("exp", "exp") == [("3", True)]


def test_modules_inside_a_step_are_part_of_it_and_their_weights_are_not():
    class Recurrent(nn.Module):
        def __init__(self):
            self.cell = nn.Linear(3, 3)
            self.out = nn.Linear(3, 3, bias=False)

        def forward(self, h):
            for t in range(4):
                with tn.scope(t):
                    h = self.out(tn.tanh(self.cell(h)))
            return h

    model = Recurrent()
    drawn = picture(model(np.ones((1, 3), np.float32)))
    assert drawn.frames == {
        (): [r"x\n1×3", r"y\n1×3"],
        ("Recurrent",): [
            r"weight\n3×3",
            r"bias\n3",
            r"weight\n3×3",
        ],
        ("Recurrent", "×4"): ["tanh"],
        ("Recurrent", "×4", "cell"): ["linear"],
        ("Recurrent", "×4", "out"): ["linear"],
    }
    assert drawn.between("linear", "linear") == [("1×3", True)]
    assert drawn.between("linear", "tanh") == drawn.between("tanh", "linear") == [("1×3", False)]


@pytest.mark.parametrize(("steps", "label", "loops"), [(7, "lstm ×7", [("", True)]), (1, "lstm", [])])
def test_a_fused_recurrence_is_a_coloured_box_with_a_loop(steps, label, loops):
    model = nn.LSTM(2, 3)
    hs, _ = model(np.ones((4, steps, 2), np.float32))
    drawn = picture(hs)
    assert drawn.fill[label] == FUSED
    assert drawn.between(label, label) == loops


def two_layers(steps, layers=2):
    """The definition of stacked LSTMs, in plain operations."""
    h = leaf(2, steps, 3)
    zeros = np.zeros((2, 3), np.float32)
    for i in range(layers):
        weights = [leaf(12, 3), leaf(12, 3), leaf(12), leaf(12)]
        with tn.scope("lstm" if layers == 1 else f"lstm{i}"):
            h, _, _ = fused.LSTM().definition(h, zeros, zeros, *weights)
    return h


def test_a_large_graph_gets_limits_that_lay_it_out_in_time(tmp_path):
    drawing = tn.draw(two_layers(steps=35), time="all")
    drawn = Picture(drawing)
    assert len(re.findall(r"n\d+ \[label=", drawn.text)) > 35 * 2 * 13
    assert drawn.settings["nslimit"] == "1"
    assert drawn.settings["mclimit"] == "0.1"
    assert "the arrows are drawn without what flows along them" in drawn.settings["label"]
    path = drawing.save(tmp_path / "large.dot")
    assert path.read_text(encoding="utf-8") == drawn.text
    assert "nslimit" not in picture(two_layers(steps=35)).settings


def test_what_is_left_out_is_told():
    y = leaf(2, name="x")
    for _ in range(3000):
        y = y + 1.0
    drawn = picture(y, limit=10)
    assert drawn.frames[()].count("+") == 10
    assert "… 2,990 operations" in drawn.frames[()]
    assert drawn.between("… 2,990 operations", "+") == [("2", False)]
    assert len(drawn.frames[()]) == 12  # x is among what is left out
    assert "2,990 older operations are left out (limit=10)" in drawn.settings["label"]


def test_a_deep_graph_is_drawn_without_recursion():
    y = leaf(2)
    for _ in range(3000):
        y = y + 1.0
    assert len(picture(y, limit=10_000).edges) == 3001


# --- layers -----------------------------------------------------------------------------------------------------------


class LanguageModel(nn.Module):
    def __init__(self):
        self.embed, self.drop = nn.Embedding(11, 4), nn.Dropout(0.5)
        self.lstm1, self.lstm2 = nn.LSTM(4, 4), nn.LSTM(4, 4)
        self.out = nn.Linear(4, 11)

    def forward(self, ids):
        h, _ = self.lstm1(self.drop(self.embed(ids)))
        h, _ = self.lstm2(self.drop(h))
        return nn.functional.cross_entropy(self.out(self.drop(h)), ids)


def test_layers_deeper_than_asked_for_are_one_box_each():
    loss = LanguageModel()(np.zeros((2, 5), int))
    drawn = picture(loss, depth=1)
    assert drawn.frames == {
        (): [r"ids\n2×5", "y"],
        ("LanguageModel",): [
            r"embed\n44 weights", "drop", r"lstm1\n160 weights", "drop", r"lstm2\n160 weights", "drop",
            r"out\n55 weights", "cross_entropy", r"targets\n10",
        ],
    }  # fmt: skip
    assert drawn.between(r"lstm1\n160 weights", r"lstm1\n160 weights") == [("", True)]
    assert drawn.between(r"lstm1\n160 weights", "drop") == [("2×5×4", False)]
    assert picture(loss, depth=0).frames[()] == [r"LanguageModel\n419 weights", r"ids\n2×5", "y"]


def test_each_call_of_a_layer_is_a_frame_of_its_own():
    drawn = str(tn.draw(LanguageModel()(np.zeros((2, 5), int))).dot)
    assert drawn.count("label=drop") == 3


# --- definitions ------------------------------------------------------------------------------------------------------


def test_the_lstm_is_opened_as_the_book_draws_it():
    """*Deep Learning from Scratch 2*, fig. 6-21: one affine map for all gates, cut into four."""
    weights = leaf(12, 2, name="W_x"), leaf(12, 3, name="W_h"), leaf(12, name="b")
    x, h, c = np.ones((4, 1, 2), np.float32), leaf(4, 3, name="h"), leaf(4, 3, name="c")
    _, h_next, _ = fused.LSTM()(x, h, c, *weights)
    drawn = picture(h_next, open=True)
    gates = ["split", "σ", "×", "σ", "tanh", "×", "+", "σ", "tanh", "×"]
    assert drawn.frames["lstm",] == ["matmul", "+", "matmul", "+", *gates]
    assert drawn.between(r"W_h\n12×3", "matmul") == [("transposed", False)]
    assert drawn.between(r"h\n4×3", "matmul") == drawn.between(r"c\n4×3", "×") == [("", False)]
    assert r"x\n4×2" in drawn.frames[()]
    assert "matmul" not in picture(h_next, open="attention").text
    assert picture(h_next).frames[()][0] == "lstm"


def test_an_rnn_is_opened_as_the_book_draws_it():
    """*Deep Learning from Scratch 2*, fig. 5-20: two products, the bias, tanh."""
    weights = leaf(3, 2, name="W_x"), leaf(3, 3, name="W_h"), leaf(3, name="b")
    _, h_next = fused.RNN()(np.ones((4, 1, 2), np.float32), leaf(4, 3, name="h"), *weights)
    drawn = picture(h_next, open=True)
    assert drawn.frames["rnn",] == ["matmul", "+", "matmul", "+", "tanh"]
    assert drawn.between(r"W_x\n3×2", "matmul") == drawn.between(r"W_h\n3×3", "matmul") == [("transposed", False)]
    assert drawn.between(r"b\n3", "+") == [("", False)]
    assert drawn.between("+", "tanh") == [("4×3", False)]


def test_attention_in_the_books_own_operations_is_drawn_as_there():
    """*Deep Learning from Scratch 2*, fig. 8-16: repeat, ×, Σ, softmax, repeat, ×, Σ."""
    h, hs = leaf(2, 1, 3, name="h"), leaf(2, 5, 3, name="hs")
    a = tn.softmax((hs * tn.repeat(h, 5, axis=1)).sum(axis=2, keepdims=True), axis=1)
    drawn = picture((hs * tn.repeat(a, 3, axis=2)).sum(axis=1))
    assert drawn.frames[()][:7] == ["repeat", "×", "Σ", "softmax", "repeat", "×", "Σ"]
    assert drawn.between(r"hs\n2×5×3", "×") == [("", False), ("", False)]


def test_attention_is_opened_as_its_two_products():
    hs = leaf(2, 5, 3, name="hs")
    context, weights = fused.Attention(1.0)(leaf(2, 1, 3, name="h"), hs, hs)
    context.name, weights.name = "c", "a"
    drawn = picture((context, weights), open=["attention"])
    assert drawn.frames["attention",] == ["matmul", "softmax", "matmul"]
    assert drawn.between(r"hs\n2×5×3", "matmul") == [("transposed", False), ("", False)]
    assert drawn.between("softmax", r"a\n2×1×5") == drawn.between("matmul", r"c\n2×1×3") == [("", False)]


def test_layers_are_opened_by_name():
    loss = LanguageModel()(np.zeros((2, 5), int))
    text = str(tn.draw(loss, open="lstm2").dot)
    assert text.count("label=split") == 1
    assert text.count("label=matmul") == 2
    assert str(tn.draw(loss, open="lstm").dot).count("label=split") == 2
    assert str(tn.draw(loss, open=True).dot).count("label=log_softmax") == 1


def test_opening_changes_nothing():
    loss = LanguageModel()(np.zeros((2, 5), int))
    first = str(tn.draw(loss, open=True).dot)
    assert str(tn.draw(loss, open=True).dot) == first
    loss.backward()


# --- what is written --------------------------------------------------------------------------------------------------


def test_shapes_dtypes_values_and_memory_are_written_on_request():
    x = Variable(np.array([1.0, 2.0], np.float64), requires_grad=True, name="x")
    y = tn.exp(x)
    assert picture(y, show=()).frames[()] == ["exp", "x", "y"]
    assert picture(y, show="dtype").frames[()] == ["exp", r"x\nfloat64", r"y\nfloat64"]
    assert picture(y, show=("shape", "dtype")).frames[()] == ["exp", r"x\n2 float64", r"y\n2 float64"]
    assert picture(y, show="values").frames[()] == [r"exp\n[2.718 7.389]", r"x\n[1. 2.]", "y"]
    assert picture(y, show="memory").frames[()] == [r"exp\nkeeps 16 B", r"x\n16 B", "y"]
    many = tn.exp(Variable(np.zeros(3000, np.float32), requires_grad=True))
    assert picture(many, show=("values", "memory")).frames[()][0] == r"exp\n1 ± 0\nkeeps 12 kB"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"show": "shapes"}, "show takes shape, dtype, values, memory, not 'shapes'"),
        ({"time": "once"}, "time is one of loop, ends, all, not 'once'"),
        ({"rankdir": "up"}, "rankdir is one of BT, TB, LR, RL, not 'up'"),
    ],
)
def test_what_is_not_known_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        tn.draw(leaf(2).sum(), **options)


def test_the_direction_can_be_chosen():
    assert picture(leaf(2).sum(), rankdir="LR").text.count("rankdir=LR") == 1


# --- backward ---------------------------------------------------------------------------------------------------------


def test_what_create_graph_records_is_coloured_and_framed_within_its_layer():
    x = leaf(3, name="x")
    with tn.scope("layer"):
        y = tn.tanh(x)
    (gx,) = tn.grad(y.sum(), x, create_graph=True)
    drawn = picture(gx)
    assert drawn.frames["layer",] == ["tanh", r"x\n3"]
    assert set(drawn.frames["layer", "backward"]) >= {"×"}
    assert drawn.color["×"] == BACKWARD
    assert drawn.color["tanh"] is None


def test_sums_of_gradients_are_part_of_the_backward():
    x = leaf(3, name="x")
    (gx,) = tn.grad((tn.tanh(x) * x).sum(), x, create_graph=True)
    drawn = picture(gx)
    assert "+" in drawn.frames["backward",]
    assert drawn.frames[()] == ["tanh", r"x\n3", r"y\n3"]


def test_an_error_in_a_recorded_backward_names_the_layer():
    x = leaf(3)
    with tn.scope("layer"):
        y = tn.tanh(x)
    (gx,) = tn.grad(y.sum(), x, create_graph=True)
    assert "in layer.backward" in gx.creator.describe()


def test_a_gradient_that_vanishes_is_seen_to_fade():
    w, h = leaf(3, 3, name="w"), leaf(2, 3)
    w.data *= 0.03
    for t in range(4):
        with tn.scope(t):
            h = tn.tanh(h @ w)
    loss = h.sum()
    drawing = tn.draw(loss, time="all", gradient=True, show=())
    drawn = Picture(drawing)
    steps = [next(label for label in drawn.frames[f"t = {t}",] if label.startswith("tanh")) for t in range(4)]
    norms = [float(label.split()[1].replace("·10⁻⁴", "e-4")) for label in steps]
    assert norms == sorted(norms)
    assert norms[3] == pytest.approx(np.sqrt(6), rel=0.05)
    assert norms[0] < norms[3] / 500
    blue = [int(drawn.fill[label][5:], 16) for label in steps]
    assert blue == sorted(blue, reverse=True)
    assert "colour: norm of the gradient" in drawn.settings["label"]
    assert "dir=both" in drawn.text
    ways_back = [int(blue, 16) for blue in re.findall(r'color="black:#....(..)"', drawn.text)]
    assert len(ways_back) >= 8
    assert max(ways_back) < 0xC0  # on white paper all of them are seen
    assert w.grad is None
    loss.backward()  # the graph is still there


def test_gradients_are_known_inside_what_is_opened_and_at_several_outputs():
    weights = leaf(12, 2), leaf(12, 3), leaf(12), leaf(12)
    x, h = np.ones((4, 2, 2), np.float32), leaf(4, 3)
    hs, h_next, _ = fused.LSTM()(x, h, h, *weights)
    drawn = picture(hs.sum() + h_next.sum(), open=True, gradient=True)
    inside = drawn.frames["lstm", "×2"]
    assert inside
    assert all("∥∂∥" in label for label in inside if not label.startswith("x"))
    closed = picture(hs.sum() + h_next.sum(), gradient=True)
    assert next(label for label in closed.frames[()] if label.startswith("lstm")) == r"lstm ×2\n∥∂∥ 6"  # √(24 + 12)


def test_gradients_of_looked_up_tables_and_zero_gradients_are_drawn():
    table = leaf(5, 3, name="table")
    drawn = picture((tn.embedding(np.array([1, 1]), table) * 0.0).sum(), gradient=True)
    assert r"table\n5×3\n∥∂∥ 0" in drawn.frames[()]


def test_a_gradient_that_is_no_number_is_hot():
    x = Variable([0.0], requires_grad=True, name="x")
    with np.errstate(all="ignore"):
        drawn = picture((tn.sqrt(x) * 0.0).sum(), gradient=True)
    assert drawn.fill[r"x\n1\n∥∂∥ nan"] == "#e8604c"


# --- errors -----------------------------------------------------------------------------------------------------------


def test_an_operation_that_failed_is_drawn_red_with_what_it_was_given():
    model = LanguageModel()
    model.out = nn.Linear(5, 11)
    with pytest.raises(ValueError, match="linear") as caught:
        model(np.zeros((2, 5), int))
    drawn = picture(caught.value, depth=1)
    assert drawn.frames["LanguageModel", "out"] == ["linear", r"weight\n11×5", r"bias\n11"]
    assert drawn.color["linear"] == FAILED
    assert drawn.between("drop", "linear") == [("2×5×4", False)]
    assert drawn.settings["label"].startswith("ValueError: linear in LanguageModel.out")
    assert "y" not in drawn.frames[()]


def test_a_transposition_that_failed_is_drawn():
    x = leaf(2, 3, name="x")
    with pytest.raises(np.exceptions.AxisError) as caught:
        x.swapaxes(0, 5)
    drawn = picture(caught.value)
    assert drawn.between(r"x\n2×3", "transpose") == [("", False)]


@pytest.mark.parametrize("time", ["loop", "ends", "all"])
def test_a_step_of_a_loop_that_failed_is_red_too(time):
    h = leaf(2, 4)
    with pytest.raises(ValueError, match=r"matmul in t=5") as caught:  # noqa: PT012
        for t in range(6):
            with tn.scope(t):
                h = tn.tanh(h @ np.ones((4 if t < 5 else 3, 4), np.float32))
    drawn = str(tn.draw(caught.value, time=time).dot)
    assert drawn.count('color="#d00000"') == 1
    assert 'label=matmul color="#d00000"' in drawn


def test_an_anomaly_within_a_definition_is_drawn_with_the_graph_that_led_to_it():
    model = LanguageModel()
    model.out.weight.data[0, 0] = np.nan
    with tn.detect_anomaly(), pytest.raises(FloatingPointError, match=r"in LanguageModel\.out\.linear") as caught:
        model(np.zeros((2, 5), int))
    text = str(tn.draw(caught.value).dot)
    assert "label=linear color=" in text
    assert "label=embedding" in text
    assert "FloatingPointError" in text


def test_a_check_that_failed_before_any_operation_is_drawn_too():
    with pytest.raises(ValueError, match="cross_entropy") as caught:
        nn.functional.cross_entropy(tn.exp(leaf(4, 3, name="x")), np.zeros(5, int))
    drawn = picture(caught.value)
    assert drawn.frames[()] == ["exp", "cross_entropy", r"x\n4×3", "5"]
    assert drawn.color["cross_entropy"] == FAILED
    with pytest.raises(ValueError, match="gru") as caught:
        nn.GRU(2, 3)(leaf(4, 5, 3, name="x"))
    assert picture(caught.value).color["gru"] == FAILED


def test_an_error_of_any_kind_in_a_function_of_a_user_is_drawn():
    class Broken(Function):
        def forward(self, x):
            raise RuntimeError("no")

    with pytest.raises(RuntimeError) as caught:
        Broken()(tn.exp(leaf(2)))
    assert picture(caught.value).color["broken"] == FAILED


def test_an_error_in_backward_is_drawn():
    class Broken(Function):
        def forward(self, x):
            return x

        def backward(self, gy):
            raise RuntimeError("no")

    y = Broken()(tn.exp(leaf(2))).sum()
    with pytest.raises(RuntimeError) as caught:
        y.backward()
    drawn = picture(caught.value)
    assert drawn.color["broken"] == FAILED
    assert drawn.between("exp", "broken") == [("2", False)]


def test_what_an_error_was_raised_from_is_drawn():
    def step(x):
        try:
            return tn.exp(x) + leaf(7)
        except ValueError as error:
            raise RuntimeError("of the user") from error

    with pytest.raises(RuntimeError) as caught:
        step(leaf(2))
    drawn = picture(caught.value)
    assert drawn.frames[()] == ["exp", "+", r"leaf\n2", r"leaf\n7"]
    assert drawn.color["+"] == FAILED
    assert drawn.settings["label"].startswith("RuntimeError: of the user")


def test_an_exception_without_a_graph_is_refused():
    with pytest.raises(ValueError, match="no operation on Variables"):
        tn.draw(ValueError("of another kind"))


# --- names ------------------------------------------------------------------------------------------------------------

NAMES = [
    'a "quoted" name',
    "가중치",
    "two\nlines",
    "back\\slash",
    "\\n",
    'end\\"',
    "\\",
    "<b>",
    "<b",
    "{a|b}",
    "node",
    "a->b;",
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("place", ["leaf", "result", "scope"])
def test_names_are_drawn_literally(name, place):
    x = leaf(name=name if place == "leaf" else None)
    with tn.scope(name if place == "scope" else "layer"):
        y = tn.exp(x)
    y.name = name if place == "result" else None
    text = str(tn.draw(y).dot)
    quoted = name.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
    assert f'label="{quoted}"' in text or (name.isalnum() and f"label={quoted} " in text)
    pygraphviz = pytest.importorskip("pygraphviz")
    read = pygraphviz.AGraph(string=text)  # a parser that is not ours
    labels = [node.attr["label"] for node in read.nodes()]
    labels += [inner.graph_attr["label"] for outer in [read, *read.subgraphs()] for inner in outer.subgraphs()]
    assert quoted.replace('\\"', '"') in labels


# --- what cannot be drawn ---------------------------------------------------------------------------------------------


def _freed():
    y = leaf(2).sum()
    y.backward()
    return y


def _half_freed():
    inner = tn.exp(leaf(2))
    y = (inner * 2.0).sum()
    inner.sum().backward()
    return y


def _without_graph():
    with tn.no_grad():
        return leaf(2).sum()


NOTHING = {
    "a leaf": lambda: leaf(2),
    "a constant": lambda: Variable([1.0]),
    "made under no_grad": _without_graph,
    "freed by backward": _freed,
    "freed in its depth": _half_freed,
    "one leaf among roots": lambda: (leaf(2).sum(), leaf(2)),
}


@pytest.mark.parametrize("case", NOTHING)
def test_where_there_is_no_graph_one_is_told_why(case):
    with pytest.raises(ValueError, match=r"no graph behind this Variable; it is a leaf.*no_grad.*freed.*retain_graph"):
        tn.draw(NOTHING[case]())


def test_a_graph_that_is_kept_can_be_drawn_after_backward():
    y = leaf(2).sum()
    y.backward(retain_graph=True)
    assert picture(y).frames[()] == ["Σ", r"leaf\n2", "y"]


def test_a_drawing_does_not_keep_the_graph_alive_nor_change_it():
    x = leaf(2)
    y = tn.exp(x).sum()
    first = str(tn.draw(y).dot)
    assert str(tn.draw(y).dot) == first
    y.backward()
    np.testing.assert_allclose(x.grad, np.exp(1), rtol=1e-6)


def test_functions_of_users_are_drawn_by_their_names():
    class GatedTanh(Function):
        def forward(self, x):
            return np.tanh(x)

    assert picture(GatedTanh()(leaf(2))).frames[()] == ["gated_tanh", r"leaf\n2", r"y\n2"]


# --- files ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def drawing():
    x = leaf(2, name="입력")
    return tn.draw(tn.exp(x).sum())


@pytest.fixture
def no_dot(monkeypatch):
    """A machine without the program `dot`."""

    def pipe(*_, **__):
        raise graphviz.ExecutableNotFound(["dot"])

    monkeypatch.setattr(graphviz.Digraph, "pipe", pipe)


@pytest.fixture
def no_renderer(no_dot, monkeypatch):
    """A machine without `dot` and without pygraphviz."""
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "pygraphviz":
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)


@pytest.mark.parametrize(("suffix", "magic"), [("svg", b"<?xml"), ("png", b"\x89PNG"), ("pdf", b"%PDF")])
def test_where_dot_is_missing_pygraphviz_draws(drawing, no_dot, tmp_path, suffix, magic):
    pytest.importorskip("pygraphviz")
    path = drawing.save(tmp_path / f"graph.{suffix}")
    assert path == tmp_path / f"graph.{suffix}"
    assert path.read_bytes().startswith(magic)
    if suffix == "svg":
        assert "입력" in path.read_text(encoding="utf-8")


def test_what_cannot_be_drawn_is_told_what_can():
    for wrong in (nn.Linear(2, 1), [np.ones(2)], 3):
        with pytest.raises(TypeError, match=r"^draw takes a Variable, several, or an exception, not"):
            tn.draw(wrong)


def test_a_drawing_that_cannot_be_written_leaves_the_one_before(drawing, tmp_path, monkeypatch):
    before = drawing.save(tmp_path / "graph.dot").read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match=r"No space .*graph\.dot"):
        drawing.save(tmp_path / "graph.dot")
    assert [path.name for path in tmp_path.iterdir()] == ["graph.dot"]
    assert (tmp_path / "graph.dot").read_bytes() == before


def test_a_name_is_drawn_as_it_is_written(tmp_path):
    pytest.importorskip("pygraphviz")
    name = "&lt;pad&gt; <b> \\N & co"
    svg = tn.draw(leaf(2, name=name) * 2).save(tmp_path / "graph.svg").read_text(encoding="utf-8")
    assert name in html.unescape(svg).replace("\N{NO-BREAK SPACE}", " ")


@pytest.mark.parametrize(("count", "text"), [(999, "999 B"), (999_499, "999 kB"), (999_700, "1 MB")])
def test_sizes_have_three_digits(count, text):
    assert graph.picture._bytes(count) == text


@pytest.mark.parametrize(("x", "text"), [(99.4, "99"), (99.7, "100"), (-99.96, "−100"), (0.0123, "0.012")])
def test_figures_have_two_digits_or_are_whole(x, text):
    assert graph.picture._number(x) == text


def test_where_dot_is_there_it_draws(drawing, tmp_path, monkeypatch):
    monkeypatch.setattr(graphviz.Digraph, "pipe", lambda self, form: f"drawn by dot as {form}".encode())
    assert drawing.save(str(tmp_path / "graph.pdf")).read_bytes() == b"drawn by dot as pdf"


def test_an_error_of_dot_is_not_hidden(drawing, tmp_path, monkeypatch):
    def fail(self, form):
        raise subprocess.CalledProcessError(1, ["dot"])

    monkeypatch.setattr(graphviz.Digraph, "pipe", fail)
    with pytest.raises(subprocess.CalledProcessError):
        drawing.save(tmp_path / "graph.svg")


def test_without_a_renderer_the_text_is_left_beside_and_one_line_says_so(drawing, no_renderer, tmp_path, capsys):
    path = drawing.save(tmp_path / "graph.svg")
    assert path == tmp_path / "graph.dot"
    assert path.read_text(encoding="utf-8") == str(drawing.dot)
    assert not (tmp_path / "graph.svg").exists()
    (line,) = capsys.readouterr().out.splitlines()
    assert str(tmp_path / "graph.svg") in line
    assert "neither dot nor pygraphviz" in line
    assert "tinygrad_nlp[viz]" in line


def test_dot_text_needs_no_renderer(drawing, no_renderer, tmp_path, capsys):
    assert drawing.save(tmp_path / "graph.dot").read_text(encoding="utf-8") == str(drawing.dot)
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", ["graph.gif", "graph", "graph.svg.txt", ".svg"])
def test_a_suffix_that_is_not_known_is_refused(drawing, tmp_path, name):
    with pytest.raises(ValueError, match=rf"\.svg, \.png, \.pdf or \.dot, not as '{re.escape(name)}'"):
        drawing.save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_notebook_is_shown_the_picture(drawing, monkeypatch):
    monkeypatch.setattr(graph.Drawing, "_render", lambda self, form: b"<svg>")
    assert drawing._repr_mimebundle_(include=None, exclude=None) == {
        "text/plain": str(drawing.dot),
        "image/svg+xml": "<svg>",
    }


def test_a_notebook_without_a_renderer_is_shown_the_text(drawing, no_renderer):
    assert drawing._repr_mimebundle_() == {"text/plain": str(drawing.dot)}
