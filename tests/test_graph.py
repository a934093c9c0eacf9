"""Drawings: what is drawn of a graph, and how it gets onto the disk where this or that renderer is missing."""

import builtins
import re
import subprocess

import graphviz
import numpy as np
import pytest

import tinygrad_nlp as tn
from tinygrad_nlp import Function, Variable, nn
from tinygrad_nlp.autograd import graph
from tinygrad_nlp.nn import fused

FUSED, OPERATION, PARAMETER, LEAF, RESULT = "#fde7c7", "white", "#d5e8d4", "#dae8fc", "#f8cecc"


def leaf(*shape, name=None):
    return Variable(np.ones(shape, np.float32), requires_grad=True, name=name)


class Picture:
    """DOT text, read back.

    Attributes:
        text: all of it.
        frames: for each frame, as a path of labels, the labels of the nodes in it.
        fill: the colour of each label.
        edges: (label of the tail, label of the head, label of the edge, whether it is dashed).
        settings: the attributes of the graph.
    """

    def __init__(self, drawing):
        self.text = str(drawing.dot)
        self.frames, self.fill, self.edges, self.settings = {}, {}, [], {}
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
                self.fill[attributes["label"]] = attributes["fillcolor"]
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
        str(tn.draw(loss).dot)
        == r"""digraph {
	graph [fontname=Helvetica fontsize=11 nodesep=0.3 rankdir=BT ranksep=0.35]
	node [fontname=Helvetica fontsize=11 height=0.3 margin="0.12,0.05"]
	edge [arrowsize=0.7 fontcolor="#555555" fontname=Helvetica fontsize=9]
	y0 [label=loss color="#b85450" fillcolor="#f8cecc" shape=ellipse style=filled]
	subgraph cluster_1 {
		color="#999999" label=TwoLayerNet labeljust=l labelloc=b style=rounded
		n1 [label=sigmoid fillcolor=white shape=box style="rounded,filled"]
		n3 [label=cross_entropy fillcolor="#fde7c7" shape=box style="rounded,filled"]
		subgraph cluster_2 {
			color="#999999" label=hidden labeljust=l labelloc=b style=rounded
			n0 [label=linear fillcolor=white shape=box style="rounded,filled"]
			leaf0 [label="weight\n10×2" color="#82b366" fillcolor="#d5e8d4" shape=ellipse style=filled]
			leaf1 [label="bias\n10" color="#82b366" fillcolor="#d5e8d4" shape=ellipse style=filled]
		}
		subgraph cluster_3 {
			color="#999999" label=out labeljust=l labelloc=b style=rounded
			n2 [label=linear fillcolor=white shape=box style="rounded,filled"]
			leaf2 [label="weight\n3×10" color="#82b366" fillcolor="#d5e8d4" shape=ellipse style=filled]
			leaf3 [label="bias\n3" color="#82b366" fillcolor="#d5e8d4" shape=ellipse style=filled]
		}
	}
	leaf0 -> n0
	leaf1 -> n0
	n0 -> n1 [label=" 5×10"]
	n1 -> n2 [label=" 5×10"]
	leaf2 -> n2
	leaf3 -> n2
	n2 -> n3 [label=" 5×3"]
	n3 -> y0
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
        (): [r"y\n1"],
        ("Outer",): ["mul", r"scale\n1"],
        ("Outer", "inner"): ["sigmoid", "cross_entropy"],
        ("Outer", "inner", "hidden"): ["linear", r"weight\n10×2", r"bias\n10"],
        ("Outer", "inner", "out"): ["linear", r"weight\n3×10", r"bias\n3"],
    }
    assert drawn.fill["cross_entropy"] == FUSED
    assert drawn.fill["sigmoid"] == OPERATION
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


def test_constants_are_not_drawn():
    x = leaf(2, 3, name="x")
    drawn = picture((x + Variable(np.ones(3, np.float32), name="constant")) * 2.0)
    assert drawn.frames == {(): ["add", "mul", r"x\n2×3", r"y\n2×3"]}
    assert drawn.edges == [(r"x\n2×3", "add", "", False), ("add", "mul", "2×3", False), ("mul", r"y\n2×3", "", False)]
    assert drawn.fill[r"x\n2×3"] == LEAF


def test_a_leaf_whose_variable_is_gone_is_drawn_without_its_name():
    x = leaf(4, name="x")
    y = tn.exp(x)
    del x
    assert picture(y).frames[()] == ["exp", r"leaf\n4", r"y\n4"]


def test_a_function_of_several_outputs_is_one_box():
    first, second = tn.split(leaf(2, 6, name="x"), 2, axis=1)
    drawn = picture(tn.tanh(first) * second)
    assert drawn.frames[()].count("split") == 1
    assert drawn.between("split", "tanh") == drawn.between("split", "mul") == [("2×3", False)]


def test_several_roots_share_one_graph():
    x = leaf(3, name="x")
    y = tn.exp(x)
    top, bottom = y.sum(), y.mean()
    top.name = "top"
    drawn = picture((top, bottom))
    assert drawn.frames[()] == ["exp", "sum", "mean", r"x\n3", "top", "y"]
    assert drawn.between("exp", "sum") == drawn.between("exp", "mean") == [("3", False)]
    assert drawn.between("sum", "top") == drawn.between("mean", "y") == [("", False)]


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
    assert drawn.frames[()] == ["unstack", "mul ×5", "tanh ×5", r"leaf\n3", r"leaf\n5×3", r"y\n3"]
    assert drawn.between("unstack", "mul ×5") == [("3", False)]
    assert drawn.between("mul ×5", "tanh ×5") == [("3", False)]
    assert drawn.between("tanh ×5", "mul ×5") == [("3", True)]
    assert "style=dashed" in drawn.text
    assert "constraint=false" in drawn.text


def test_the_steps_of_a_loop_are_drawn_one_by_one_where_that_is_asked_for():
    drawn = picture(loop(5), collapse_time=False)
    assert drawn.frames[()].count("mul") == drawn.frames[()].count("tanh") == 5
    assert drawn.between("tanh", "mul") == [("3", True)] * 4


def test_the_definition_of_the_lstm_is_drawn_as_one_step():
    drawn = picture(two_layers(steps=6, layers=1))
    operations = [label.removesuffix(" ×6") for label in drawn.frames[("lstm",)] if label.endswith("×6")]
    assert sorted(operations) == sorted(
        ["linear", "linear", "add", "split", *["sigmoid"] * 3, *["tanh"] * 2, *["mul"] * 3, "add"]
    )
    dashed = {(tail, head) for tail, head, _, is_dashed in drawn.edges if is_dashed}
    assert dashed == {("mul ×6", "linear ×6"), ("add ×6", "mul ×6")}  # h and c
    assert sum(is_dashed for *_, is_dashed in drawn.edges) == 2


def test_what_one_loop_hands_to_another_is_no_recurrence():
    h = leaf(3)
    for name in ("encoder", "decoder"):
        with tn.scope(name):
            for t in range(3):
                with tn.scope(t):
                    h = {"encoder": tn.tanh, "decoder": tn.exp}[name](h)
    drawn = picture(h)
    assert drawn.between("tanh ×3", "exp ×3") == [("3", False)]
    assert drawn.between("tanh ×3", "tanh ×3") == drawn.between("exp ×3", "exp ×3") == [("3", True)]


def test_modules_inside_a_step_are_part_of_it():
    class Recurrent(nn.Module):
        def __init__(self):
            self.cell = nn.Linear(3, 3)
            self.out = nn.Linear(3, 3)

        def forward(self, h):
            for t in range(4):
                with tn.scope(t):
                    h = self.out(tn.tanh(self.cell(h)))
            return h

    model = Recurrent()
    drawn = picture(model(np.ones((1, 3), np.float32)))
    assert drawn.frames[("Recurrent", "cell")] == ["linear ×4", r"weight\n3×3", r"bias\n3"]
    assert drawn.frames[("Recurrent",)] == ["tanh ×4"]
    assert drawn.between("linear ×4", "linear ×4") == [("1×3", True)]
    assert drawn.between("linear ×4", "tanh ×4") == drawn.between("tanh ×4", "linear ×4") == [("1×3", False)]


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
    drawing = tn.draw(two_layers(steps=35), collapse_time=False)
    drawn = Picture(drawing)
    assert len(drawn.fill) > 10
    assert len(re.findall(r"n\d+ \[label=", drawn.text)) > 35 * 2 * 13
    assert drawn.settings["nslimit"] == "1"
    assert drawn.settings["mclimit"] == "0.1"
    path = drawing.save(tmp_path / "large.dot")
    assert path.read_text(encoding="utf-8") == drawn.text
    assert "nslimit" not in picture(two_layers(steps=35)).settings


def test_a_deep_graph_is_drawn_without_recursion():
    y = leaf(2)
    for _ in range(3000):
        y = y + 1.0
    assert len(picture(y).edges) == 3001


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
    if place == "leaf":
        quoted += "\\n"  # and no shape
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
    assert picture(y).frames[()] == ["sum", r"leaf\n2", "y"]


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
