"""The benchmarks' bookkeeping: turns, floors, rows and the command line. Nothing here asserts a time."""

import dataclasses
import itertools
import json
import os
import subprocess
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

import pytest

import benchmarks.__main__ as command
from benchmarks import child, harness, scaling
from benchmarks.harness import Product, Result, Workload
from benchmarks.workloads import WORKLOADS, dates, spiral

ROOT = Path(__file__).parents[1]
KEYS = [
    "name",
    "ours_ms",
    "torch_ms",
    "torch_compiled_ms",
    "ratio",
    "floor_ms",
    "floor_ratio",
    "ours_peak_mb",
    "torch_peak_mb",
    "threads",
    "blas",
]


def nothing():
    pass


def workload(products=(), operations=1):
    return Workload("fake", "nothing", lambda: nothing, lambda compiled=False: nothing, lambda: products, operations)


def result(**changes):
    values = dict.fromkeys(KEYS) | {"name": "spiral", "ours_ms": 0.051, "threads": 2, "blas": "openblas 1"}
    return Result(**values | changes)


@pytest.fixture
def measured(monkeypatch):
    """Replaces the clock by fixed seconds per side; returns what `measure` makes of them."""

    def measure(seconds, workload, **options):
        def interleave(sides, rounds, progress):
            progress(0)
            return {side: seconds[side] for side in sides}

        monkeypatch.setattr(harness, "interleave", interleave)
        monkeypatch.setattr(harness, "_peak_mb_of_child", lambda name, side: {"ours": 80.0, "torch": 400.0}[side])
        return harness.measure(workload, **options)

    return measure


@pytest.fixture
def fake_torch(monkeypatch):
    torch = ModuleType("torch")
    torch.__spec__ = ModuleSpec("torch", None)
    torch.set_num_threads = lambda threads: setattr(torch, "threads", threads)
    monkeypatch.setitem(sys.modules, "torch", torch)
    return torch


# --- timing -----------------------------------------------------------------------------------------------------------


def test_sides_take_turns_and_the_first_steps_of_a_turn_do_not_count(monkeypatch):
    events = []
    monkeypatch.setattr(harness, "_steps_of_turn", lambda step: (2, 1))
    monkeypatch.setattr(harness, "_settle", lambda: events.append("pause"))
    rounds = []
    medians = harness.interleave(
        {"a": lambda: events.append("a"), "b": lambda: events.append("b")}, rounds=3, progress=rounds.append
    )
    assert events == ["pause", "a", "a", "a", "pause", "b", "b", "b"] * 3
    assert rounds == [0, 1, 2]
    assert medians.keys() == {"a", "b"}


def test_the_median_is_taken(monkeypatch):
    warm_up = 9
    samples = (warm_up, 1, warm_up, 5, warm_up, 100)
    ticks = iter([tick for sample in samples for tick in (0, sample)])  # when it starts, when it ends
    monkeypatch.setattr(harness.time, "perf_counter", lambda: next(ticks))
    monkeypatch.setattr(harness, "_settle", lambda: None)
    monkeypatch.setattr(harness, "_steps_of_turn", lambda step: (1, 1))
    assert harness.interleave({"a": nothing}, rounds=3) == {"a": 5}


@pytest.mark.parametrize(("seconds", "expected"), [(0.001, (100, 20)), (0.03, (4, 1)), (7.0, (1, 1))])
def test_short_steps_are_taken_more_often(monkeypatch, seconds, expected):
    ticks = iter([0, 3 * seconds])
    monkeypatch.setattr(harness.time, "perf_counter", lambda: next(ticks))
    assert harness._steps_of_turn(nothing) == expected


def test_a_turn_waits_until_the_threads_of_the_last_one_rest(monkeypatch):
    processor = iter([0.0, 0.02, 0.02, 0.04, 0.04, 0.0401])  # two threads busy, twice, and then none
    pauses = []
    monkeypatch.setattr(harness.time, "process_time", lambda: next(processor))
    monkeypatch.setattr(harness.time, "sleep", pauses.append)
    harness._settle()
    assert len(pauses) == 3


def test_a_thread_that_never_rests_is_not_waited_for_forever(monkeypatch):
    processor = itertools.count()
    monkeypatch.setattr(harness.time, "process_time", lambda: next(processor))
    monkeypatch.setattr(harness.time, "sleep", lambda seconds: None)
    harness._settle()
    assert next(processor) == 2 * harness.SETTLES_AT_MOST


def test_each_call_apart_has_a_process_of_its_own():
    processes = harness.apart(eval, ["__import__('os').getpid()"] * 2)
    assert len({os.getpid(), *processes}) == 3
    assert harness.apart(pow, [2, 3], [5, 4]) == [32, 81]


# --- floors -----------------------------------------------------------------------------------------------------------


def test_flops_of_a_product():
    assert Product(2, 3, 5).flops == 60
    assert Product(2, 3, 5, count=7, batch=11).flops == 60 * 77


def test_the_floor_of_dates_is_three_times_its_forward_products():
    """Each product of forward has two in backward: the gradients of its two operands."""
    n, v, d, h = dates.BATCH, dates.VOCAB, dates.EMBED, dates.HIDDEN
    source, target = dates.IN_STEPS, dates.OUT_STEPS
    lstm = (source + target) * n * (d + h) * 4 * h
    attention = 2 * n * target * source * h
    output = n * target * 2 * h * v
    assert sum(p.flops for p in dates.floor()) == 3 * 2 * (lstm + attention + output)


def test_the_floor_of_spiral_needs_no_gradient_of_the_inputs():
    n, d, h, c = spiral.BATCH, spiral.FEATURES, spiral.HIDDEN, spiral.CLASSES
    assert sum(p.flops for p in spiral.floor()) == 2 * n * (2 * d * h + 3 * h * c)


PRODUCTS = [Product(2, 3, 5, count=4), Product(2, 3, 5, count=2, batch=7)]


def test_numpy_does_the_products(monkeypatch):
    shapes = []
    step = harness.numpy_products(PRODUCTS)
    monkeypatch.setattr(harness.np, "matmul", lambda a, b, out: shapes.append((a.shape, b.shape, out.shape)))
    step()
    assert shapes == [((2, 3), (3, 5), (2, 5))] * 4 + [((7, 2, 3), (7, 3, 5), (7, 2, 5))] * 2


def test_torch_does_the_products():
    pytest.importorskip("torch")
    harness.torch_products(PRODUCTS)()


# --- rows -------------------------------------------------------------------------------------------------------------


def test_the_keys_of_a_row():
    assert [field.name for field in dataclasses.fields(Result)] == KEYS


def test_without_pytorch_there_are_our_times_and_the_floor(measured, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    row = measured({"ours": 0.006, "floor_numpy": 0.005}, workload(PRODUCTS), compiled=True)
    assert (row.ours_ms, row.floor_ms, row.floor_ratio, row.ours_peak_mb) == (6.0, 5.0, 1.2, 80.0)
    assert row.torch_ms is row.torch_compiled_ms is row.ratio is row.torch_peak_mb is None


def test_the_ratio_is_to_the_faster_pytorch(measured, fake_torch):
    seconds = {"ours": 0.006, "torch": 0.008, "torch_compiled": 0.003}
    row = measured(seconds, workload())
    assert (row.torch_ms, row.torch_compiled_ms, row.ratio) == (8.0, None, 0.75)
    row = measured(seconds, workload(), compiled=True)
    assert (row.torch_ms, row.torch_compiled_ms, row.ratio) == (8.0, 3.0, 2.0)
    assert row.floor_ms is row.floor_ratio is None
    assert row.torch_peak_mb == 400.0
    assert fake_torch.threads == row.threads


def test_the_floor_is_the_faster_blas(measured, fake_torch, monkeypatch):
    monkeypatch.setattr(harness, "torch_products", lambda products: nothing)
    row = measured({"ours": 0.006, "torch": 1, "floor_numpy": 0.005, "floor_torch": 0.003}, workload(PRODUCTS))
    assert (row.floor_ms, row.floor_ratio) == (3.0, 2.0)


def test_a_row_can_be_of_one_operation_of_many(measured, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    assert measured({"ours": 0.5}, workload(operations=100)).ours_ms == pytest.approx(5.0)


def test_memory_is_not_measured_where_it_says_nothing(measured, fake_torch):
    row = measured({"ours": 1, "torch": 1}, dataclasses.replace(workload(), memory=False))
    assert row.ours_peak_mb is row.torch_peak_mb is None


@pytest.mark.skipif(sys.platform == "win32", reason="not measured on Windows")
def test_peak_memory_is_of_the_process_itself():
    run = "import benchmarks.harness as h; print(h.peak_mb())"
    held = bytearray(400_000_000)  # the process that is started must not report this
    child = subprocess.run([sys.executable, "-c", run], cwd=ROOT, check=True, capture_output=True, text=True)
    assert 5 < float(child.stdout) < 300
    del held


@pytest.mark.skipif(sys.platform == "win32", reason="not measured on Windows")
def test_a_side_has_a_process_of_its_own_for_its_memory():
    held = bytearray(400_000_000)
    assert 20 < harness._peak_mb_of_child("spiral", "ours") < 300
    del held


# --- command line -----------------------------------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch):
    """Measures nothing; holds the names of the workloads that were asked for, and whether compiled."""
    calls = []

    def apart(function, names, compiled):
        assert function is child.row
        calls.append((names, *set(compiled)))
        return [result(name=name) for name in names]

    monkeypatch.setattr(command, "apart", apart)
    return calls


def test_the_command_prints_a_table_and_writes_json(asked, tmp_path, capsys):
    command.main(["overhead", "spiral", "--compile", "--json", str(tmp_path / "results.json")])
    assert asked == [(["overhead", "spiral"], True)]
    rows = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in rows] == ["overhead", "spiral"]
    assert [list(row) for row in rows] == [KEYS, KEYS]
    assert rows[0]["torch_ms"] is None
    assert capsys.readouterr().out.count("0.0510") == 2


def test_without_names_all_workloads_are_measured(asked):
    command.main([])
    assert asked == [(list(WORKLOADS), False)]
    assert list(WORKLOADS)[:3] == ["spiral", "dates", "overhead"]


def test_the_beginning_of_names_selects_a_group_and_each_is_measured_once(asked):
    command.main(["op_mul", "graph_1000", "op_mul_10"])
    assert asked == [(["op_mul_10", "op_mul_10000", "graph_1000"], False)]


def test_an_unknown_workload_is_an_error_that_names_the_known(capsys):
    with pytest.raises(SystemExit) as exit_:
        command.main(["spirals"])
    assert exit_.value.code == 2
    assert "unknown workload 'spirals'; choose from spiral, dates, overhead, " in capsys.readouterr().err


def test_help_tells_what_each_workload_measures(capsys):
    with pytest.raises(SystemExit) as exit_:
        command.main(["--help"])
    assert exit_.value.code == 0
    out = capsys.readouterr().out
    assert all(workload.text in out for workload in WORKLOADS.values())


def test_table():
    lines = command.table([result(torch_ms=123.456, ratio=0.5)]).splitlines()
    assert lines[0].split()[:3] == ["workload", "ours", "ms"]
    assert lines[1].split() == ["spiral", "0.0510", "123", "-", "0.500", "-", "-", "-", "-"]
    assert lines[2] == "2 threads, openblas 1"


# --- scaling ----------------------------------------------------------------------------------------------------------


def test_the_slope_is_the_exponent_of_the_upper_half():
    sizes = [1, 10, 100, 1_000, 10_000]
    assert scaling.slope(sizes, [7, 7, 100, 1_000, 10_000]) == pytest.approx(1)
    assert scaling.slope(sizes, [7, 7, 1, 100, 10_000]) == pytest.approx(2)


def test_scaling_prints_times_and_slopes_and_draws_them(monkeypatch, tmp_path, capsys):
    pytest.importorskip("matplotlib")
    asked = []
    monkeypatch.setattr(scaling, "ours", lambda model: asked.append((model.steps, model.vocab)))
    monkeypatch.setattr(scaling, "milliseconds", lambda step: float(asked[-1][0] * asked[-1][1]))
    scaling.main(["--out", str(tmp_path / "scaling.png")])
    out = capsys.readouterr().out
    assert asked == [(t, 1_000) for t in scaling.STEPS] + [(35, v) for v in scaling.WORDS]
    assert "steps T: time ~ T^1.00" in out
    assert "words V: time ~ V^1.00" in out
    assert (tmp_path / "scaling.png").read_bytes().startswith(b"\x89PNG")


def test_a_time_is_the_median_behind_steps_that_warm_up(monkeypatch):
    ticks = iter([0, 1, 0, 2, 0, 50, 0, 3, 0, 100, 0, 1, 0, 70])
    monkeypatch.setattr(scaling.time, "perf_counter", lambda: next(ticks))
    calls = []
    assert scaling.milliseconds(lambda: calls.append(1)) == 3000
    assert len(calls) == scaling.WARM_UP + scaling.SAMPLES


# --- workloads --------------------------------------------------------------------------------------------------------


def test_loading_the_workloads_loads_neither_library():
    code = "import sys, benchmarks.workloads; print('torch' in sys.modules, 'tinygrad_nlp' in sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    assert run.stdout.split() == ["False", "False"]


@pytest.mark.parametrize("name", WORKLOADS)
def test_our_step_runs(name):
    step = WORKLOADS[name].ours()
    step()
    step()


@pytest.mark.parametrize("name", WORKLOADS)
def test_the_step_of_pytorch_runs(name):
    pytest.importorskip("torch")
    step = WORKLOADS[name].torch()
    step()
    step()
