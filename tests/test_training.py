"""Training: the loop, its callbacks, and runs that are stopped or killed and go on as if nothing had happened."""

import errno
import json
import math
import os
import signal
import stat
import struct
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nlp as tn
from tinygrad_nlp import backend, nn, optim, threads
from tinygrad_nlp.data import DataLoader
from tinygrad_nlp.training import (
    Callback,
    Checkpoint,
    Evaluation,
    KeepBest,
    ProgressBar,
    SaveCheckpoint,
    Schedule,
    Trainer,
    load_weights,
    output_folder,
    save_weights,
)

ROWS, BATCH = 22, 6
STEPS = 4  # of an epoch; the last batch is smaller
EPOCHS = 2


class Classifier(nn.Module):
    """Two layers with dropout between them: a step depends on the library's random stream."""

    def __init__(self, hidden=5):
        self.hidden = nn.Linear(2, hidden)
        self.dropout = nn.Dropout(0.3)
        self.out = nn.Linear(hidden, 3)

    def forward(self, x, t):
        return nn.functional.cross_entropy(self.out(self.dropout(tn.sigmoid(self.hidden(x)))), t)


def data(rows=ROWS):
    rng = np.random.default_rng(0)
    return rng.normal(size=(rows, 2)).astype(np.float32), rng.integers(3, size=rows)


class Run:
    """All parts of a training run; `before_loss` and `while_evaluating` see the trainer at these moments."""

    def __init__(self, path=None, seed=0, callbacks=(), before_loss=None, while_evaluating=None):
        tn.manual_seed(seed)
        self.model = Classifier()
        self.optimizer = optim.Adam(self.model.parameters(), lr=0.05)
        self.loader = DataLoader(data(), BATCH, seed=seed)
        self.before_loss, self.while_evaluating = before_loss, while_evaluating
        self.loss_factor = lambda: 1.0
        saving = [] if path is None else [SaveCheckpoint(path)]
        self.trainer = Trainer(
            self.model,
            self.optimizer,
            self.loss,
            max_norm=0.5,
            callbacks=[Evaluation(self.measure), *callbacks, *saving],
        )

    def loss(self, x, t):
        if self.before_loss is not None:
            self.before_loss(self.trainer)
        return self.model(x, t) * self.loss_factor()

    def measure(self):
        if self.while_evaluating is not None:
            self.while_evaluating(self.trainer)
        return {"test loss": self.model(*data())}

    def fit(self, **options):
        self.trainer.fit(self.loader, EPOCHS, **options)
        return self

    def state(self):
        return state_of(self.model, self.optimizer, self.loader) | {
            "history": self.trainer.history,
            "steps": self.trainer.steps,
        }


def state_of(model, optimizer, loader):
    """Everything that training changes, in a form that compares bit for bit."""
    optimizer_state = optimizer.state_dict()
    arrays = model.state_dict() | optimizer_state.pop("arrays")
    return {
        "arrays": {name: (array.dtype.str, array.shape, array.tobytes()) for name, array in arrays.items()},
        "optimizer": optimizer_state,
        "loader": loader.state_dict(),
        "random": backend.generator().bit_generator.state,
    }


# --- the loop ---------------------------------------------------------------------------------------------------------


def test_fit_makes_every_step_and_keeps_the_history():
    run = Run().fit()
    history = run.trainer.history
    assert run.trainer.steps == run.optimizer.steps == STEPS * EPOCHS
    assert run.loader.epoch == EPOCHS
    assert [x for x, _ in history["loss"]] == [(i + 1) / STEPS for i in range(STEPS * EPOCHS)]
    assert [x for x, _ in history["test loss"]] == [1, 2]
    assert all(type(value) is float for points in history.values() for _, value in points)


def test_fit_makes_all_steps_whoever_else_goes_through_the_loader():
    run = Run(while_evaluating=lambda trainer: list(trainer.loader))
    next(iter(run.loader))
    run.fit()
    assert run.trainer.steps == STEPS * EPOCHS
    assert run.trainer.epoch == EPOCHS


def test_what_is_no_callback_is_refused():
    model = Classifier()
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(TypeError, match=r"^Trainer: StepLR is no Callback; write Schedule\(…\) around it$"):
        Trainer(model, optimizer, callbacks=[optim.StepLR(optimizer, 1)])
    with pytest.raises(TypeError, match=r"^Trainer: function is no Callback$"):
        Trainer(model, optimizer, callbacks=[lambda trainer: None])


def test_fit_counts_the_epochs_of_an_earlier_fit():
    run = Run().fit()
    run.trainer.fit(run.loader, EPOCHS)
    assert run.trainer.steps == STEPS * EPOCHS
    run.trainer.fit(run.loader, EPOCHS + 1)
    assert run.trainer.steps == STEPS * (EPOCHS + 1)


def test_a_run_goes_on_from_its_own_count_of_epochs(tmp_path):
    whole = Run(while_evaluating=lambda trainer: list(trainer.loader)).fit()
    first = Run(tmp_path / "checkpoint", while_evaluating=lambda trainer: list(trainer.loader))
    first.trainer.fit(first.loader, 1)
    rest = Run(while_evaluating=lambda trainer: list(trainer.loader))
    rest.fit(resume=Checkpoint.load(tmp_path / "checkpoint"))
    assert rest.state() == whole.state()


def test_fit_is_the_loop_that_one_would_write():
    tn.manual_seed(0)
    model, losses = Classifier(), []
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    loader = DataLoader(data(), BATCH)
    for _ in range(EPOCHS):
        for x, t in loader:
            optimizer.zero_grad()
            loss = model(x, t)
            loss.backward()
            optim.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            losses.append(float(loss))
    by_hand = state_of(model, optimizer, loader)

    tn.manual_seed(0)
    model = Classifier()
    optimizer = optim.Adam(model.parameters(), lr=0.05)
    loader = DataLoader(data(), BATCH)
    trainer = Trainer(model, optimizer, max_norm=0.5)  # the loss is the model itself
    trainer.fit(loader, EPOCHS)
    assert state_of(model, optimizer, loader) == by_hand
    assert [value for _, value in trainer.history["loss"]] == losses


@pytest.mark.parametrize("max_norm", [None, 0.01])
def test_max_norm_bounds_the_gradient_of_a_step(max_norm):
    norms = []

    class Watch(Callback):
        def on_step(self, trainer):
            norms.append(math.sqrt(sum(float((p.grad**2).sum()) for p in trainer.model.parameters())))

    model = Classifier()
    Trainer(model, optim.SGD(model.parameters(), lr=0.1), max_norm=max_norm, callbacks=[Watch()]).fit(
        DataLoader(data(), BATCH), epochs=1
    )
    assert len(norms) == STEPS
    if max_norm is None:
        assert min(norms) > 0.02
    else:
        np.testing.assert_allclose(norms, max_norm, rtol=1e-5)


def test_fit_called_again_with_more_epochs_goes_on():
    at_once = Run().fit()
    in_two = Run()
    in_two.trainer.fit(in_two.loader, 1)
    in_two.trainer.fit(in_two.loader, 2)
    assert in_two.trainer.history == at_once.trainer.history


class Diary(Callback):
    """Writes down what it is called with."""

    def __init__(self, name, events):
        self.name, self.events = name, events

    def on_start(self, trainer):
        self.events.append(f"{self.name} starts at {trainer.steps} of {trainer.total_steps}")

    def on_step(self, trainer):
        x, t = trainer.batch
        assert x.shape == (len(t), 2)
        assert trainer.loss == trainer.history["loss"][-1][1]
        self.events.append(f"{self.name} step {trainer.steps} with {len(t)}")

    def on_epoch(self, trainer):
        self.events.append(f"{self.name} epoch {trainer.loader.epoch}")

    def on_stop(self, trainer):
        self.events.append(f"{self.name} stops")


def test_callbacks_are_called_in_their_order_at_the_joints():
    events = []
    model = Classifier()
    callbacks = [Callback(), Diary("a", events), Diary("b", events)]
    Trainer(model, optim.SGD(model.parameters(), lr=0.1), callbacks=callbacks).fit(DataLoader(data(10), 6), epochs=1)
    assert events == [
        "a starts at 0 of 2", "b starts at 0 of 2",
        "a step 1 with 6", "b step 1 with 6",
        "a step 2 with 4", "b step 2 with 4",
        "a epoch 1", "b epoch 1",
        "a stops", "b stops",
    ]  # fmt: skip


def test_on_stop_is_called_also_after_a_failure():
    events = []

    def fail(trainer):
        raise ZeroDivisionError

    run = Run(callbacks=[Diary("a", events)], before_loss=fail)
    with pytest.raises(ZeroDivisionError):
        run.fit()
    assert events == ["a starts at 0 of 8", "a stops"]


def test_record_adds_a_figure_at_the_present_step():
    class Record(Callback):
        def on_step(self, trainer):
            if trainer.steps in (2, 5):
                trainer.record("lr", trainer.optimizer.lr)

    run = Run(callbacks=[Record()]).fit()
    assert run.trainer.history["lr"] == [[0.5, 0.05], [1.25, 0.05]]


def test_plot_draws_the_history():
    pytest.importorskip("matplotlib")
    assert [axes.get_ylabel() for axes in Run().fit().trainer.plot().axes] == ["loss"]


# --- callbacks --------------------------------------------------------------------------------------------------------


def test_evaluation_runs_in_evaluation_mode_and_training_goes_on_in_training_mode():
    seen, trained = [], []
    run = Run(
        before_loss=lambda trainer: trained.append(run.model.dropout.training),
        while_evaluating=lambda trainer: seen.append((trainer.model.training, trainer.model.dropout.training)),
    )
    run.model.eval()  # fit switches to training
    run.fit()
    assert seen == [(False, False)] * EPOCHS
    assert trained == [True] * STEPS * EPOCHS
    assert run.model.dropout.training


def test_an_evaluation_that_fails_leaves_the_model_in_training_mode():
    def fail(trainer):
        raise ZeroDivisionError

    run = Run(while_evaluating=fail)
    with pytest.raises(ZeroDivisionError):
        run.fit()
    assert run.model.training
    assert run.model.dropout.training


def test_progress_bar_leaves_a_line_for_each_evaluated_epoch_and_tells_the_speed(capsys):
    run = Run(callbacks=[ProgressBar(count=lambda x, t: t.size, unit="points")]).fit()
    out, bar = capsys.readouterr()
    lines = out.splitlines()
    assert len(lines) == EPOCHS
    losses = [value for _, value in run.trainer.history["loss"]]
    for epoch, line in enumerate(lines, start=1):
        mean = np.mean(losses[(epoch - 1) * STEPS : epoch * STEPS])
        measured = run.trainer.history["test loss"][epoch - 1][1]
        assert line == f"epoch {epoch}/{EPOCHS}  loss {mean:.5f}  test loss {measured:.5g}"
    last = bar.split("\r")[-1]
    assert "epoch 2/2: 100%" in last
    assert "8/8" in last
    assert "points/s=" in last
    assert f"loss={losses[-1]:.4f}" in last


def test_the_last_bar_has_the_last_figures(capsys):
    run = Run(callbacks=[ProgressBar()]).fit()
    first, last = (value for _, value in run.trainer.history["test loss"])
    assert f"{first:.4g}" != f"{last:.4g}"
    assert f"test loss={last:.4g}" in capsys.readouterr().err.split("\r")[-1]


def test_progress_bar_counts_tokens_and_leaves_no_line_where_nothing_is_measured(capsys):
    model = Classifier()
    bar = ProgressBar()
    Trainer(model, optim.SGD(model.parameters(), lr=0.1), callbacks=[bar]).fit(DataLoader(data(), BATCH), epochs=1)
    out, err = capsys.readouterr()
    assert out == ""
    assert "tokens/s=" in err
    assert bar.counted == ROWS


def test_progress_bar_of_a_resumed_run_starts_where_it_stopped(tmp_path, capsys):
    first = Run(tmp_path / "checkpoint")
    first.trainer.fit(first.loader, 1)
    capsys.readouterr()
    Run(callbacks=[ProgressBar()]).fit(resume=Checkpoint.load(tmp_path / "checkpoint"))
    out, err = capsys.readouterr()
    assert "4/8" in err.split("\r")[1]
    assert "8/8" in err.split("\r")[-1]
    assert [line.split("  ")[0] for line in out.splitlines()] == ["epoch 2/2"]


def test_a_resumed_run_with_nothing_left_shows_no_progress_bar(tmp_path, capsys):
    Run(tmp_path / "checkpoint").fit()
    capsys.readouterr()
    Run(callbacks=[ProgressBar()]).fit(resume=Checkpoint.load(tmp_path / "checkpoint"))
    assert capsys.readouterr() == ("", "")


class Watch(Callback):
    """Writes down the rate with which each step was made, and that of the next."""

    def __init__(self):
        self.rates = []

    def on_start(self, trainer):
        self.rates.append(trainer.optimizer.lr)

    on_step = on_epoch = on_start


def scheduled(path, kind, **options):
    """A run whose rate follows a schedule."""
    run = Run(path, **options)
    if kind == "steps":
        schedule = Schedule(optim.Warmup(optim.CosineAnnealingLR(run.optimizer, T_max=STEPS * EPOCHS), 2))
    else:
        plateau = optim.ReduceLROnPlateau(run.optimizer, mode="max", factor=0.5, patience=0)
        schedule = Schedule(plateau, monitor="test loss")  # it falls, so that every epoch is a plateau of "max"
    run.watch = Watch()
    run.trainer.callbacks[1:1] = [schedule, run.watch]
    return run


def test_a_schedule_sets_the_rate_of_each_step():
    run = scheduled(None, "steps").fit()
    expected = optim.Warmup(optim.CosineAnnealingLR(optim.SGD(run.model.parameters(), 0.05), T_max=STEPS * EPOCHS), 2)
    steps = [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 8]
    assert run.watch.rates == [expected.lr_at(step) for step in steps]


def test_a_schedule_lets_the_rate_fall_after_an_epoch_without_improvement():
    run = scheduled(None, "plateau")
    run.trainer.fit(run.loader, 3)
    tests = [value for _, value in run.trainer.history["test loss"]]
    assert tests == sorted(tests, reverse=True)
    assert run.watch.rates[1 :: STEPS + 1] == [0.05, 0.05, 0.025]
    assert run.optimizer.lr == 0.0125


@pytest.mark.parametrize("kind", ["steps", "plateau"])
@pytest.mark.parametrize("step", [2, STEPS, STEPS + 1])
def test_a_run_with_a_schedule_is_resumed_bit_for_bit(tmp_path, kind, step):
    interrupted = scheduled(tmp_path / "c", kind, before_loss=interrupt_before(step))
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit()
    resumed = scheduled(tmp_path / "c", kind, seed=9).fit(resume=Checkpoint.load(tmp_path / "c"))
    assert resumed.state() == scheduled(tmp_path / "other", kind).fit().state()
    assert (tmp_path / "c").read_bytes() == (tmp_path / "other").read_bytes()


def test_a_resumed_run_multiplies_with_the_same_threads(tmp_path, monkeypatch):
    run = Run(tmp_path / "c")
    monkeypatch.setattr(threads, "lone_products", 7)
    run.fit()
    threads.lone_products = 0
    Checkpoint.load(tmp_path / "c").restore(run.model, run.optimizer, run.loader, run.trainer.callbacks)
    assert threads.lone_products == 7


def test_a_schedule_by_a_figure_needs_its_name_and_others_take_none():
    optimizer = Run().optimizer
    with pytest.raises(TypeError, match=r"needs a monitor, .* got ReduceLROnPlateau and monitor=None"):
        Schedule(optim.ReduceLROnPlateau(optimizer))
    with pytest.raises(TypeError, match="got StepLR and monitor='loss'"):
        Schedule(optim.StepLR(optimizer, 1), monitor="loss")


@pytest.mark.parametrize(
    "make", [lambda run: Schedule(optim.ReduceLROnPlateau(run.optimizer), "valid"), lambda run: KeepBest("f", "valid")]
)
def test_a_figure_that_nobody_measures_is_named(make):
    run = Run()
    run.trainer.callbacks.append(make(run))
    with pytest.raises(ValueError, match="no figure is called 'valid', but 'loss', 'test loss': the Evaluation"):
        run.fit()


@pytest.mark.parametrize("mode", ["min", "max"])
def test_the_weights_of_the_best_epoch_are_kept(tmp_path, mode):
    figures = iter([3.0, math.nan, 2.0, 5.0, 2.0, 4.0])
    seen = []
    model = Classifier()

    def measure():
        seen.append(model.out.bias.data.copy())
        return {"figure": next(figures)}

    best = KeepBest(tmp_path / "best", "figure", mode)
    trainer = Trainer(model, optim.Adam(model.parameters()), callbacks=[Evaluation(measure), best])
    trainer.fit(DataLoader(data(), BATCH), 6)
    load_weights(model, tmp_path / "best")
    at = 2 if mode == "min" else 3  # of equals the first
    assert best.best == (2.0 if mode == "min" else 5.0)
    assert np.array_equal(model.out.bias.data, seen[at])
    with pytest.raises(ValueError, match="KeepBest: mode must be"):
        KeepBest("f", "figure", "best")


def test_a_resumed_run_does_not_overwrite_the_best_with_what_is_worse(tmp_path):
    def run(figures, resume=None):
        tn.manual_seed(0)
        model = Classifier()
        figures = iter(figures)
        callbacks = [
            Evaluation(lambda: {"figure": next(figures)}),
            KeepBest(tmp_path / "best", "figure"),
            SaveCheckpoint(tmp_path / "c"),
        ]
        trainer = Trainer(model, optim.Adam(model.parameters()), callbacks=callbacks)
        trainer.fit(DataLoader(data(), BATCH), 1 if resume is None else 2, resume)

    run([1.0])
    before = (tmp_path / "best").read_bytes()
    run([2.0], Checkpoint.load(tmp_path / "c"))
    assert (tmp_path / "best").read_bytes() == before


# --- runs that end early ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("factor", "name"), [(math.nan, "nan"), (math.inf, "inf"), (-math.inf, "-inf")])
def test_a_loss_that_is_not_finite_stops_at_the_step_and_keeps_the_last_good_checkpoint(tmp_path, factor, name):
    path = tmp_path / "checkpoint"
    kept = {}
    run = Run(path, callbacks=[Keep(path, kept)])
    run.loss_factor = lambda: factor if run.trainer.steps == 5 else 1.0
    with pytest.raises(FloatingPointError, match=f"the loss is {name} at step 6"):
        run.fit()
    assert run.trainer.steps == 5
    assert path.read_bytes() == kept["file"]
    assert Checkpoint.load(path).loader["epoch"] == 1
    for name, array in run.model.state_dict().items():
        assert np.array_equal(array, kept["weights"][name]), name


class Exploding(nn.Module):
    """Two layers; what the second gives is infinite, or has an infinite gradient, once its weights are large."""

    def __init__(self):
        self.first, self.second = nn.Linear(2, 3), nn.Linear(3, 1)
        self.dropout = nn.Dropout(0.2)
        self.gradient_only = False

    def forward(self, x, t):
        y = self.dropout(self.second(self.first(x)))
        if self.gradient_only:
            y = tn.sqrt(y * y)  # |y|, whose gradient is 0/0 at 0
        return y.mean()


def test_the_error_names_step_layer_and_operation_and_nothing_is_changed():
    model = Exploding()
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.1))
    loader = DataLoader(data(), BATCH)
    trainer.fit(loader, 1)
    model.second.weight.data = np.full((1, 3), 3e38, np.float32)
    model.first.weight.data = np.full((3, 2), 1e30, np.float32)
    before = state_of(model, trainer.optimizer, loader)["arrays"]
    with np.errstate(over="ignore", invalid="ignore"), pytest.raises(FloatingPointError) as caught:
        trainer.fit(loader, 2)
    message = str(caught.value)
    assert f"the loss is nan at step {STEPS + 1}: matmul in Exploding.second.linear (" in message
    assert "test_training.py" in message
    assert "forward gave" in message
    assert "smaller learning rate" in message
    assert trainer.steps == STEPS
    assert state_of(model, trainer.optimizer, loader)["arrays"] == before


def test_a_gradient_that_is_not_finite_stops_before_the_step():
    model = Exploding()
    model.gradient_only = True
    model.second.weight.data = np.zeros((1, 3), np.float32)
    model.second.bias.data = np.zeros(1, np.float32)
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.1))
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError) as caught:
        trainer.fit(DataLoader(data(), BATCH), 1)
    message = str(caught.value)
    assert "the norm of the gradient is nan at step 1: " in message
    assert "sqrt" in message
    assert "backward gave" in message
    assert trainer.steps == 0
    assert all(np.isfinite(array).all() for array in model.state_dict().values())


def test_weights_that_are_not_finite_do_not_take_the_place_of_the_last_good_checkpoint(tmp_path):
    run = Run(tmp_path / "c")
    run.trainer.fit(run.loader, 1)
    before = (tmp_path / "c").read_bytes()

    class Spoil(Callback):
        def on_epoch(self, trainer):
            trainer.model.out.weight.data[0, 0] = np.inf

    run.trainer.callbacks.insert(0, Spoil())
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError, match=r"out\.weight are not finite after step 8"):
        run.fit()
    assert (tmp_path / "c").read_bytes() == before


def test_the_norm_of_the_gradient_is_told():
    norms = []

    class Norms(Callback):
        def on_step(self, trainer):
            norms.append((trainer.grad_norm, sum(float((p.grad**2).sum()) for p in trainer.model.parameters()) ** 0.5))

    model = Classifier()
    Trainer(model, optim.SGD(model.parameters(), lr=0.1), callbacks=[Norms()]).fit(DataLoader(data(), BATCH), 1)
    assert len(norms) == STEPS
    for told, summed in norms:
        assert told == pytest.approx(summed, rel=1e-5)


class Keep(Callback):
    """Keeps the file and the weights as they are after step 5."""

    def __init__(self, path, kept):
        self.path, self.kept = path, kept

    def on_step(self, trainer):
        if trainer.steps == 5:
            self.kept["file"] = self.path.read_bytes()
            self.kept["weights"] = {name: array.copy() for name, array in trainer.model.state_dict().items()}


def interrupt_before(step):
    """Ctrl-C while step `step` (from 1) is computed."""
    return lambda trainer: signal.raise_signal(signal.SIGINT) if trainer.steps == step - 1 else None


def interrupt_evaluation(epoch):
    return lambda trainer: signal.raise_signal(signal.SIGINT) if trainer.loader.epoch == epoch else None


INTERRUPTIONS = {f"in step {step}": {"before_loss": interrupt_before(step)} for step in range(1, STEPS * EPOCHS + 1)}
INTERRUPTIONS |= {
    f"in evaluation {epoch}": {"while_evaluating": interrupt_evaluation(epoch)} for epoch in range(1, EPOCHS + 1)
}


@pytest.mark.parametrize("moment", INTERRUPTIONS)
def test_a_run_that_is_interrupted_and_resumed_equals_one_that_never_was_bit_for_bit(tmp_path, moment):
    path = tmp_path / "checkpoint"
    handler = signal.getsignal(signal.SIGINT)
    interrupted = Run(path, **INTERRUPTIONS[moment])
    with pytest.raises(KeyboardInterrupt):
        interrupted.fit()
    kind, _, number = moment.removeprefix("in ").partition(" ")
    assert interrupted.trainer.steps == int(number) * (1 if kind == "step" else STEPS)  # the step was finished
    assert interrupted.trainer.interrupted
    assert signal.getsignal(signal.SIGINT) is handler

    resumed = Run(path, seed=99)  # everything is different until the checkpoint is read
    resumed.fit(resume=Checkpoint.load(path))
    after_resumed = resumed.state(), [batch[0].tobytes() for batch in resumed.loader]
    uninterrupted = Run(tmp_path / "other").fit()
    after = uninterrupted.state(), [batch[0].tobytes() for batch in uninterrupted.loader]
    assert after_resumed == after
    assert path.read_bytes() == (tmp_path / "other").read_bytes()


def test_a_run_may_be_interrupted_after_every_single_step(tmp_path):
    path = tmp_path / "checkpoint"
    resume = None
    for step in range(1, STEPS * EPOCHS + 1):
        run = Run(path, seed=step if resume else 0, before_loss=interrupt_before(step))
        with pytest.raises(KeyboardInterrupt):
            run.fit(resume=resume)
        resume = Checkpoint.load(path)
    last = Run(seed=50).fit(resume=resume)  # the evaluation is left
    assert last.state() == Run().fit().state()


class Unfreeze(Callback):
    """The first layer learns from the second epoch on."""

    def on_start(self, trainer):
        trainer.model.hidden.requires_grad_(trainer.loader.epoch > 0)

    on_epoch = on_start


def fine_tuned(path, resume=None, stop=None):
    """A run in which layers have rates of their own, one of them is frozen at first, and the rate falls."""
    run = Run(path, seed=99 if resume else 0, before_loss=stop and interrupt_before(stop))
    head, body = run.model.out.parameters(), run.model.hidden.parameters()
    run.optimizer = run.trainer.optimizer = optim.AdamW([{"params": body, "lr": 0.02}, {"params": head}], lr=0.05)
    schedule = optim.CosineAnnealingLR(run.optimizer, STEPS * EPOCHS)
    run.trainer.callbacks[:0] = [Unfreeze(), Schedule(schedule)]
    return run.fit(resume=resume)


@pytest.mark.parametrize("step", range(1, STEPS * EPOCHS + 1))
def test_a_run_with_groups_and_frozen_layers_is_resumed_bit_for_bit(tmp_path, step):
    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        fine_tuned(path, stop=step)
    resumed = fine_tuned(path, Checkpoint.load(path))
    assert resumed.optimizer.updates == [STEPS, STEPS, STEPS * EPOCHS, STEPS * EPOCHS]
    assert resumed.state() == fine_tuned(tmp_path / "other").state()


def test_the_second_interrupt_ends_a_run_at_once_and_no_half_step_is_saved(tmp_path):
    path = tmp_path / "checkpoint"
    handler = signal.getsignal(signal.SIGINT)
    run = Run(path)

    class HalfAStep(optim.SGD):
        def update(self, data, gradient, *state):
            super().update(data, gradient, *state)
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)

    run.trainer.optimizer = HalfAStep(run.model.parameters(), lr=0.1)
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert run.trainer.steps == 0
    assert not run.trainer.interrupted
    assert Checkpoint.load(path).history == {}  # that of the beginning
    assert signal.getsignal(signal.SIGINT) is handler


def test_an_interrupted_run_whose_step_fails_keeps_the_last_good_checkpoint(tmp_path):
    def interrupt_and_fail(trainer):
        signal.raise_signal(signal.SIGINT)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Run(tmp_path / "checkpoint", before_loss=interrupt_and_fail).fit()
    assert Checkpoint.load(tmp_path / "checkpoint").history == {}  # that of the beginning


@pytest.mark.parametrize("step", range(1, STEPS * EPOCHS + 1))
def test_a_trainer_that_was_interrupted_fits_on_without_a_checkpoint(step):
    run = Run(before_loss=interrupt_before(step))
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    assert run.trainer.interrupted
    run.fit()
    assert not run.trainer.interrupted
    assert run.state() == Run().fit().state()


def test_an_interrupted_trainer_begins_with_another_loader_from_its_start():
    run = Run(before_loss=interrupt_before(2))
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    other = DataLoader(data(), BATCH, shuffle=False)
    next(iter(other))
    steps = run.trainer.steps
    run.trainer.fit(other, 1)
    assert run.trainer.steps - steps == STEPS


@pytest.mark.parametrize("step", range(1, STEPS * EPOCHS + 1))
def test_a_run_with_a_progress_bar_is_resumed_from_every_step(tmp_path, step):
    path = tmp_path / "checkpoint"
    with pytest.raises(KeyboardInterrupt):
        Run(path, callbacks=[ProgressBar()], before_loss=interrupt_before(step)).fit()
    resumed = Run(path, callbacks=[ProgressBar()]).fit(resume=Checkpoint.load(path))
    assert resumed.state() == Run().fit().state()


def test_fit_runs_in_a_thread_where_python_delivers_no_signals():
    run = Run()
    thread = threading.Thread(target=run.fit)
    thread.start()
    thread.join()
    assert run.trainer.steps == STEPS * EPOCHS


def test_a_checkpoint_can_be_resumed_from_twice(tmp_path):
    first = Run(tmp_path / "checkpoint")
    first.trainer.fit(first.loader, 1)
    checkpoint = Checkpoint.load(tmp_path / "checkpoint")
    once = Run().fit(resume=checkpoint).state()
    assert Run().fit(resume=checkpoint).state() == once


# --- checkpoints ------------------------------------------------------------------------------------------------------


def halfway(path=None, **options):
    """A run in the middle of its second epoch."""
    run = Run(path, before_loss=interrupt_before(STEPS + 2), **options)
    with pytest.raises(KeyboardInterrupt):
        run.fit()
    return run


def test_a_checkpoint_comes_back_from_its_file_as_it_was(tmp_path):
    saved = halfway().trainer.checkpoint({"vocabulary": 'a\n한"', "settings": {"lr": 0.05, "out": None}})
    saved.save(tmp_path / "checkpoint")
    loaded = Checkpoint.load(tmp_path / "checkpoint")
    for ours, theirs in ((loaded.weights, saved.weights), (loaded.optimizer["arrays"], saved.optimizer["arrays"])):
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            assert array.dtype == theirs[name].dtype
            assert array.tobytes() == theirs[name].tobytes()
    for name in ("loader", "random", "epoch", "history", "extra"):
        assert getattr(loaded, name) == getattr(saved, name), name
    assert {**loaded.optimizer, "arrays": 0} == {**saved.optimizer, "arrays": 0}
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint"]


@pytest.fixture(scope="module")
def whole_file(tmp_path_factory):
    path = tmp_path_factory.mktemp("whole") / "checkpoint"
    tn.manual_seed(0)
    model = Classifier()
    Checkpoint.of(model, optim.Adam(model.parameters()), DataLoader(data(), BATCH)).save(path)
    return path.read_bytes()


def test_the_metadata_of_a_file_do_not_grow_with_the_steps(tmp_path):
    """safetensors refuses more than 100 MB of them, which would end a run of millions of steps."""
    sizes = []
    for steps in (10, 10_000):
        run = Run()
        history = {"loss": [[i / 3, 1 / (i + 1)] for i in range(steps)]}
        Checkpoint.of(run.model, run.optimizer, run.loader, history=history).save(tmp_path / "checkpoint")
        assert Checkpoint.load(tmp_path / "checkpoint").history == history
        sizes.append(int.from_bytes((tmp_path / "checkpoint").read_bytes()[:8], "little"))
    assert sizes[1] - sizes[0] < 100  # longer numbers of places in the file


def test_a_run_that_begins_leaves_nothing_of_one_before_it_to_be_resumed(tmp_path):
    path = tmp_path / "checkpoint"
    Run(path).fit()
    fresh = Run(seed=1)
    with pytest.raises(ZeroDivisionError):
        Run(path, seed=1, before_loss=lambda trainer: 1 / 0).fit()
    checkpoint = Checkpoint.load(path)
    assert (checkpoint.epoch, checkpoint.history) == (0, {})
    np.testing.assert_equal(checkpoint.weights, fresh.model.state_dict())
    whole, resumed = Run(seed=1).fit(), Run(seed=2).fit(resume=checkpoint)
    assert resumed.state() == whole.state()


@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_that_is_cut_short_is_refused_by_name(whole_file, tmp_path_factory, share):
    path = tmp_path_factory.mktemp("cut") / "cut.safetensors"
    path.write_bytes(whole_file[: int(share * len(whole_file))])
    with pytest.raises(ValueError, match=r"cut\.safetensors is cut short"):
        Checkpoint.load(path)
    with pytest.raises(ValueError, match=r"cut\.safetensors is cut short"):
        load_weights(Classifier(), path)


@pytest.mark.parametrize("content", [b"", b"weights", b"\x89PNG\r\n\x1a\n" + bytes(100), b"\xff" * 64])
def test_a_file_of_another_kind_is_refused_by_name(tmp_path, content):
    (tmp_path / "picture.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"picture\.png is cut short, or no safetensors file"):
        Checkpoint.load(tmp_path / "picture.png")


@pytest.mark.parametrize("kept", ["{}", '{"optimizer": {}}', '{"optimizer": 3, "callbacks": []}'])
def test_a_file_with_less_than_a_training_state_is_refused_by_name(tmp_path, kept):
    safetensors.numpy.save_file({"w": np.zeros(1)}, tmp_path / "odd", {"tinygrad_nlp": kept})
    with pytest.raises(ValueError, match=r"odd is no checkpoint of this version of the library"):
        Checkpoint.load(tmp_path / "odd")


def test_weights_that_half_the_size_does_not_hold_are_refused_by_name(tmp_path):
    model = Classifier()
    model.out.bias.data[:] = 7e4
    with pytest.raises(ValueError, match=r"^the weights out\.bias have numbers too large for float16$"):
        save_weights(model, tmp_path / "half", np.float16)
    assert not (tmp_path / "half").exists()
    model.out.bias.data[:] = np.inf
    save_weights(model, tmp_path / "half", np.float16)
    load_weights(model, tmp_path / "half")
    assert np.isinf(model.out.bias.data).all()


def test_a_checkpoint_is_no_file_of_weights(whole_file, tmp_path):
    (tmp_path / "checkpoint").write_bytes(whole_file)
    with pytest.raises(ValueError, match=r"checkpoint is a checkpoint: .*Checkpoint\.load\(path\)\.weights"):
        load_weights(Classifier(), tmp_path / "checkpoint")


def test_a_file_of_weights_is_no_checkpoint(tmp_path):
    save_weights(Classifier(), tmp_path / "weights")
    with pytest.raises(ValueError, match=r"weights holds weights, but no training state"):
        Checkpoint.load(tmp_path / "weights")


def test_a_missing_file_is_named(tmp_path):
    for read in (Checkpoint.load, lambda path: load_weights(Classifier(), path)):
        with pytest.raises(FileNotFoundError, match=r"there is no file .*nowhere"):
            read(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError):
        Checkpoint.load(tmp_path)


class Deeper(Classifier):
    def __init__(self):
        super().__init__()
        self.extra = nn.Linear(2, 2)
        del self.out


STRANGERS = {
    "a model of other sizes": (lambda: Classifier(hidden=7), r"hidden\.weight: shape \(5, 2\), \(7, 2\) is needed"),
    "a model of other names": (Deeper, r"(?s)missing: extra\.weight.*unexpected: out\.weight"),
    "a rule without state": (lambda m: optim.SGD(m.parameters(), 0.1), "a run with Adam, the optimizer is SGD"),
    "a rule of the same state": (lambda m: optim.AdamW(m.parameters()), "a run with Adam, the optimizer is AdamW"),
    "a rule of fewer parameters": (lambda m: optim.Adam([m.hidden.weight]), r"the state 1\.m \(5,\) is not of these"),
    "other callbacks": (lambda: [], "a run with no such callbacks; in this run there are KeepBest"),
    "other data": (lambda: DataLoader(data(ROWS + 1), BATCH), "rows = 22, this loader has rows = 23"),
    "data in order": (lambda: DataLoader(data(), BATCH, shuffle=False), "shuffle = True, this loader has"),
}


@pytest.mark.parametrize("stranger", STRANGERS)
def test_the_checkpoint_of_a_stranger_is_refused_and_nothing_is_changed(tmp_path, stranger):
    halfway(tmp_path / "checkpoint")
    make, message = STRANGERS[stranger]
    tn.manual_seed(7)
    model = make() if "model" in stranger else Classifier()
    optimizer = make(model) if "rule" in stranger else optim.Adam(model.parameters())
    loader = make() if "data" in stranger else DataLoader(data(), BATCH)
    for parameter in model.parameters():
        parameter.grad = np.ones(parameter.shape, np.float32)
    optimizer.step()  # so that there is something to change
    next(iter(loader))
    before = state_of(model, optimizer, loader)
    trainer = Trainer(model, optimizer, callbacks=[KeepBest("f", "loss")] if "callbacks" in stranger else [])
    with pytest.raises(ValueError, match=message):
        trainer.fit(loader, EPOCHS, resume=Checkpoint.load(tmp_path / "checkpoint"))
    assert state_of(model, optimizer, loader) == before
    assert trainer.history == {}
    assert trainer.steps == 0


def test_a_rule_without_state_does_not_pass_for_one_that_has(tmp_path):
    model = Classifier()
    loader = DataLoader(data(), BATCH)
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.1), callbacks=[SaveCheckpoint(tmp_path / "c")])
    trainer.fit(loader, 1)
    with pytest.raises(ValueError, match="a run with SGD, the optimizer is Adam"):
        Checkpoint.load(tmp_path / "c").restore(model, optim.Adam(model.parameters()), loader)


# --- weights ----------------------------------------------------------------------------------------------------------


def contents(path):
    return safetensors.numpy.load(Path(path).read_bytes())


def test_weights_come_back_as_they_were(tmp_path):
    tn.manual_seed(1)
    saved, loaded = Classifier(), Classifier()
    save_weights(saved, tmp_path / "weights")
    load_weights(loaded, str(tmp_path / "weights"))
    for (name, ours), theirs in zip(loaded.named_parameters(), saved.parameters(), strict=True):
        assert np.array_equal(ours.data, theirs.data), name


def test_float16_halves_the_file_and_loads_as_float32(tmp_path):
    saved, loaded = nn.Linear(100, 100), nn.Linear(100, 100)
    save_weights(saved, tmp_path / "full")
    save_weights(saved, tmp_path / "half", np.float16)
    full, half = ((tmp_path / name).stat().st_size for name in ("full", "half"))
    assert 0.49 < half / full < 0.51
    load_weights(loaded, tmp_path / "half")
    assert loaded.weight.dtype == np.float32
    assert np.array_equal(loaded.weight.data, saved.weight.data.astype(np.float16).astype(np.float32))
    assert saved.weight.dtype == np.float32


class Odd(nn.Module):
    """Arrays whose bytes do not lie in the order of their elements, and one without axes."""

    def __init__(self):
        table = np.arange(24, dtype=np.float32).reshape(4, 6)
        self.transposed = nn.Parameter(table.T)
        self.strided = nn.Parameter(table[::2, 1::3])
        self.reversed = nn.Parameter(table[:, ::-1])
        self.scale = nn.Parameter(np.array(3.0, np.float32))
        self.empty = nn.Parameter(np.zeros((0, 3), np.float32))


@pytest.mark.parametrize("dtype", [None, np.float16])
def test_arrays_of_any_memory_layout_are_written_as_they_read(tmp_path, dtype):
    model = Odd()
    expected = {name: array.copy() for name, array in model.state_dict().items()}
    save_weights(model, tmp_path / "weights", dtype)
    for name, array in contents(tmp_path / "weights").items():
        assert array.shape == expected[name].shape, name
        assert np.array_equal(array, expected[name]), name
    other = Odd()
    for parameter in other.parameters():
        parameter.data = np.zeros(parameter.shape, np.float32)
    load_weights(other, tmp_path / "weights")
    for name, array in other.state_dict().items():
        assert np.array_equal(array, expected[name]), name


class Tied(nn.Module):
    def __init__(self):
        self.embed = nn.Embedding(5, 3)
        self.out = nn.Linear(3, 5)
        self.out.weight = self.embed.weight


def test_tied_weights_are_stored_once(tmp_path):
    saved, loaded = Tied(), Tied()
    save_weights(saved, tmp_path / "weights")
    assert sorted(contents(tmp_path / "weights")) == ["embed.weight", "out.bias"]
    load_weights(loaded, tmp_path / "weights")
    assert loaded.out.weight is loaded.embed.weight
    assert np.array_equal(loaded.out.weight.data, saved.embed.weight.data)


def test_a_state_dict_as_pytorch_saves_it_is_loaded(tmp_path):
    rng = np.random.default_rng(0)
    shapes = {"weight_ih_l0": (12, 2), "weight_hh_l0": (12, 3), "bias_ih_l0": (12,), "bias_hh_l0": (12,)}
    state = {f"lstm.{name}": rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    safetensors.numpy.save_file(state, tmp_path / "model.safetensors", metadata={"format": "pt"})

    class Reader(nn.Module):
        def __init__(self):
            self.lstm = nn.LSTM(2, 3)

    model = Reader()
    load_weights(model, tmp_path / "model.safetensors")
    for name, array in model.state_dict().items():
        assert np.array_equal(array, state[name]), name


def test_a_file_of_torch_save_is_told_how_it_can_be_read(tmp_path):
    with zipfile.ZipFile(tmp_path / "model.pt", "w") as file:  # as torch.save writes it
        file.writestr("model/data.pkl", b"")
    with pytest.raises(
        ValueError, match=r"model\.pt is no safetensors file.*torch\.save.*safetensors\.torch\.save_file"
    ):
        load_weights(nn.Linear(1, 2), tmp_path / "model.pt")


def test_numbers_that_numpy_does_not_know_are_refused_by_name(tmp_path):
    header = json.dumps({"weight": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}).encode()
    (tmp_path / "brain.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    with pytest.raises(ValueError, match=r"brain\.safetensors holds numbers that NumPy does not know .*bfloat16"):
        load_weights(nn.Linear(1, 2, bias=False), tmp_path / "brain.safetensors")


def test_weights_of_another_model_are_refused_and_nothing_is_changed(tmp_path):
    save_weights(Deeper(), tmp_path / "weights")
    model = Classifier()
    before = {name: array.copy() for name, array in model.state_dict().items()}
    with pytest.raises(ValueError, match=r"(?s)missing: out\.weight.*missing: out\.bias.*unexpected: extra\.weight"):
        load_weights(model, tmp_path / "weights")
    assert all(np.array_equal(array, before[name]) for name, array in model.state_dict().items())


def test_a_trained_model_is_loaded_under_a_new_head(tmp_path):
    trained = Deeper()
    save_weights(trained, tmp_path / "weights")
    model = Classifier()
    others = load_weights(model, tmp_path / "weights", strict=False)
    assert others.missing_keys == ["out.weight", "out.bias"]
    assert sorted(others.unexpected_keys) == ["extra.bias", "extra.weight"]  # in the order of the file
    assert np.array_equal(model.hidden.weight.data, trained.hidden.weight.data)
    assert load_weights(Deeper(), tmp_path / "weights") == ([], [])


# --- files that survive ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_on_a_full_disk_the_checkpoint_before_survives_and_no_rest_is_left(tmp_path, monkeypatch, call):
    path = tmp_path / "checkpoint"
    run = halfway(path)
    before = path.read_bytes()

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space left"):
        run.trainer.checkpoint().save(path)
    with pytest.raises(OSError, match="No space left"):
        save_weights(run.model, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["checkpoint"]


FULL = """
import errno, resource, sys
import numpy as np
from tinygrad_nlp import nn
from tinygrad_nlp.training import save_weights

save_weights(nn.Linear(10, 10), sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))  # a write beyond it fails in its middle
try:
    save_weights(nn.Linear(100, 100), sys.argv[1])
except OSError as error:
    print(errno.errorcode[error.errno], error.filename)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX limits")
def test_when_a_write_fails_half_way_the_file_before_survives(tmp_path):
    path = tmp_path / "weights"
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(path)], capture_output=True, text=True, cwd=Path(__file__).parents[1]
    )
    assert done.stdout == f"EFBIG {path}\n", done.stderr
    assert contents(path)["weight"].shape == (10, 10)
    assert [file.name for file in tmp_path.iterdir()] == ["weights"]


def test_a_folder_that_does_not_exist_is_named_as_the_user_did(tmp_path):
    path = tmp_path / "nowhere" / "weights"
    with pytest.raises(FileNotFoundError, match="nowhere") as caught:
        save_weights(nn.Linear(2, 2), path)
    assert caught.value.filename == str(path)
    assert str(caught.value) == f"[Errno {errno.ENOENT}] No such file or directory: {str(path)!r}"


SAVER = """
import os, signal, sys
import numpy as np
from tinygrad_nlp import nn
from tinygrad_nlp.training import save_weights

path, moment = sys.argv[1:]
model = nn.Linear(400, 400, bias=False)
model.weight.data[...] = 0
save_weights(model, path)
if moment != "any":  # die in the middle of the next one
    setattr(os, moment, lambda *_: os.kill(os.getpid(), signal.SIGKILL))
for number in range(1, 1_000_000):
    model.weight.data[...] = number
    print(number, flush=True)
    save_weights(model, path)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
@pytest.mark.parametrize("moment", ["fsync", "replace", "any 1", "any 2", "any 3"])
def test_a_process_that_is_killed_while_saving_leaves_a_whole_file(tmp_path, moment):
    path = tmp_path / "weights"
    at_any = moment.startswith("any")
    process = subprocess.Popen(
        [sys.executable, "-c", SAVER, str(path), moment.split()[0]],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[1],
    )
    with process:
        for _ in range(20 if at_any else 1):
            assert process.stdout.readline()
        if at_any:
            process.kill()
    assert process.returncode == -signal.SIGKILL
    weights = contents(path)["weight"]
    assert weights.shape == (400, 400)
    assert (weights == weights[0, 0]).all()
    assert weights[0, 0] >= 19 if at_any else weights[0, 0] == 0
    # What it has left goes at the next save. What is written to other files in this folder stays, and so does all else.
    left = {file.name for file in tmp_path.iterdir()} - {"weights"}
    assert len(left) == 1 if not at_any else len(left) <= 1
    others = {".weights.2.7.tmp", ".weights2.7.tmp", ".weights.7", "weights.7.tmp", ".weights.x.tmp", ".aweights.7.tmp"}
    for name in others | {".weights.7.tmp"}:
        (tmp_path / name).touch()
    save_weights(nn.Linear(2, 2), path)
    assert {file.name for file in tmp_path.iterdir()} == others | {"weights"}


TRAINING = """
import os, signal, sys
from pathlib import Path
import numpy as np
import tinygrad_nlp as tn
from tinygrad_nlp import nn, optim
from tinygrad_nlp.data import SequentialWindows
from tinygrad_nlp.nn.functional import cross_entropy
from tinygrad_nlp.training import (
    BPTT, Callback, Checkpoint, Evaluation, KeepBest, SaveCheckpoint, Schedule, Trainer, perplexity
)

class Model(nn.Module):
    def __init__(self):
        self.embed, self.rnn, self.out = nn.Embedding(7, 3), nn.LSTM(3, 4), nn.Linear(4, 7)
        self.drop = nn.Dropout(0.2)

    def forward(self, x, state=None):
        h, state = self.rnn(self.embed(x), state)
        return self.out(self.drop(h)), state

class Death(Callback):
    def on_step(self, trainer):
        if moment == f"step {trainer.steps}":
            os.kill(os.getpid(), signal.SIGKILL)

    def on_epoch(self, trainer):
        if moment == f"epoch {trainer.loader.epoch}":
            os.kill(os.getpid(), signal.SIGKILL)

folder, moment = Path(sys.argv[1]), sys.argv[2]
ids = np.random.default_rng(5).integers(7, size=50)
tn.manual_seed(0)
model = Model()
optimizer = optim.Adam(model.parameters(), lr=0.05)
plateau = Schedule(optim.ReduceLROnPlateau(optimizer, patience=0), "perplexity")
figure = Evaluation(lambda: {"perplexity": perplexity(model, ids)})
saves = KeepBest(folder / "best", "perplexity"), Death(), SaveCheckpoint(folder / "checkpoint")
trainer = Trainer(model, optimizer, BPTT(model, 2, 0.5), 1.0, callbacks=[figure, plateau, *saves])
if moment.startswith("write"):  # the n-th one of a file is its last
    replace, writes = os.replace, iter(range(1, 100))
    def last(*paths):
        if next(writes) == int(moment.split()[1]):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(*paths)
    os.replace = last
resume = Checkpoint.load(folder / "checkpoint") if (folder / "checkpoint").is_file() else None
trainer.fit(SequentialWindows(ids, 4, 3), 4, resume)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_run_that_is_killed_again_and_again_comes_to_what_one_does_that_never_was(tmp_path):
    def train(name, moment):
        (tmp_path / name).mkdir(exist_ok=True)
        command = [sys.executable, "-c", TRAINING, str(tmp_path / name), moment]
        done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1])
        assert done.returncode == (-signal.SIGKILL if moment else 0), done.stderr
        return {path: (tmp_path / name / path).read_bytes() for path in ("best", "checkpoint") if not moment}

    # In the first epoch, before there is any checkpoint; at an epoch's end, before and while a file is saved; within.
    for moment in ("step 3", "write 2", "epoch 1", "step 5", "write 1", "step 7", "epoch 2", "step 15"):
        train("killed", moment)
    assert train("killed", "") == train("whole", "")
    assert {path.name for path in (tmp_path / "killed").iterdir()} == {"best", "checkpoint"}


@pytest.mark.skipif(os.name != "posix", reason="needs POSIX permissions")
def test_a_checkpoint_has_the_permissions_of_any_new_file(tmp_path):
    (tmp_path / "ordinary").touch()
    save_weights(Classifier(), tmp_path / "weights")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("ordinary", "weights")}
    assert len(modes) == 1


def test_output_folder_makes_the_folder_and_leaves_nothing_in_it(tmp_path):
    folder = output_folder(str(tmp_path / "a" / "b"))
    assert folder == tmp_path / "a" / "b"
    assert list(folder.iterdir()) == []
    assert output_folder(folder) == folder


@pytest.mark.parametrize("below", ["file", "file/folder", "file/folder/deeper"])
def test_output_folder_refuses_a_path_that_cannot_be_a_folder_and_names_it(tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OSError, match=r"cannot write to the output folder .*choose another") as caught:
        output_folder(tmp_path / below)
    assert str(tmp_path / below) in str(caught.value)
    assert (tmp_path / "file").read_text() == "in the way"


def test_a_trainer_that_has_not_begun_says_so():
    model = nn.Linear(1, 1)
    trainer = Trainer(model, optim.SGD(model.parameters(), lr=0.1), lambda x: model(x).sum())
    with pytest.raises(RuntimeError, match=r"^Trainer.record: fit has not begun"):
        trainer.record("loss", 1.0)
    with pytest.raises(RuntimeError, match=r"^Trainer.checkpoint: fit has not begun"):
        trainer.checkpoint()
