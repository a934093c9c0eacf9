"""D5 — reads dates in four forms and writes them as 1994-09-27, with attention (*Deep Learning from Scratch 2*, ch. 8).

    python -m examples.dates train
    python -m examples.dates translate "sep 27, 1994"
    python -m examples.dates evaluate

`train` prints the exact match on 5,000 held-out dates after each epoch, then ten of them with O or X, and leaves in
runs/dates/ the learning curve, the attention maps of five dates, the computation graph of a step, and a checkpoint. The
book's figure: 99.9 % at epoch 3.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

import tinygrad_nlp as tn
from examples import cli
from examples.cli import command, resumed
from examples.models.attention_seq2seq import AttentionSeq2seq
from tinygrad_nlp import nn, optim, plot
from tinygrad_nlp.data import DataLoader, DateData, load_dates, make_dates
from tinygrad_nlp.data.dates import QUESTION_LENGTH, START
from tinygrad_nlp.text import Vocab
from tinygrad_nlp.training import Checkpoint, Evaluation, ProgressBar, SaveCheckpoint, Schedule, Trainer, output_folder

EPOCHS = 3
ANSWER_LENGTH = len("1994-09-27")
CHECKPOINT = "checkpoint.safetensors"


@dataclass
class Settings:
    """How the model is made and trained."""

    embed_size: int = 16
    """size of the vector of a character"""
    hidden_size: int = 256
    """size of the LSTMs' states"""
    lr: float = 1.5e-3
    """learning rate of Adam at the start; it falls in a straight line to 0 at the end of the last epoch"""
    beta2: float = 0.99
    """β₂ of Adam; at its usual 0.999 a model that is nearly right now and then jumps away again"""
    eps: float = 1e-5
    """ε of Adam; larger than its usual 1e-8 for the same reason"""
    batch_size: int = 128
    """dates in a mini-batch"""
    epochs: Annotated[int | None, cli.epochs(EPOCHS)] = None
    """times through the training dates, those before a resumption included"""
    max_norm: float = 5.0
    """the gradient is clipped to this norm"""
    data: Literal["auto", "book", "made"] = "auto"
    """the book's 50,000 dates (downloaded where they are not at hand), dates made here in the same forms, or (auto) the
    book's where they are at hand and made ones elsewhere"""
    seed: int = 0
    """of the weights and of the order of the dates"""
    out: str = "runs/dates"
    """folder for pictures and checkpoint"""
    resume: bool = False
    """go on from the checkpoint in the folder, with its settings; others are refused, but --epochs counts where it is
    more than there"""
    quick: bool = False
    """to see that it runs, in seconds: 1,000 made dates, hidden size 32 and one epoch, whatever else is given"""


def build(settings: Settings, vocab: Vocab) -> AttentionSeq2seq:
    """The model, with initial values from which it learns fast.

    The book's own (embeddings of std 0.01, weights of std 1/√fan_in, biases 0) came to 99.5 % at epoch 3. What helps,
    in this order: embeddings of std 1, `nn.Embedding`'s own; forget gates that begin open (Jozefowicz et al., 2015);
    and recurrent weights that keep the length of the state.
    """
    model = AttentionSeq2seq(len(vocab), settings.embed_size, settings.hidden_size)
    for name, parameter in model.named_parameters():
        if "bias" in name:
            nn.init.zeros_(parameter)
        elif "weight_hh" in name:
            nn.init.orthogonal_(parameter)
        elif "embed" not in name:
            nn.init.fan_in_normal_(parameter)
    for lstm in (model.encoder.lstm, model.decoder.lstm):
        forget_gate = slice(settings.hidden_size, 2 * settings.hidden_size)
        lstm.bias_ih_l0.data[forget_gate] = 1
    return model


def read(vocab: Vocab, ids: np.ndarray) -> str:
    """The text of ids (T,)."""
    return "".join(vocab.decode(ids))


def exact_match(model: AttentionSeq2seq, vocab: Vocab, x: np.ndarray, t: np.ndarray) -> float:
    """The share of questions (N, 29) whose whole answer is written as in t (N, 11)."""
    start = vocab[START]
    right = 0
    for rows in np.array_split(np.arange(len(x)), max(len(x) // 500, 1)):
        ids, _ = model.translate(x[rows], start, ANSWER_LENGTH)
        right += int((ids == t[rows, 1:]).all(axis=1).sum())
    return right / len(x)


@command
def train(settings: Annotated[Settings, tyro.conf.OmitArgPrefixes]) -> None:
    """Train the model, and draw what it has learnt."""
    out = output_folder(settings.out)
    settings, checkpoint = settle(settings, out)
    tn.manual_seed(settings.seed)
    dates = load_dates(settings.data, n=1_000) if settings.quick else load_dates(settings.data)
    count, tests = len(dates.train[0]), len(dates.test[0])
    print(f"{count:,} dates to train on, {tests:,} to test ({dates.source}), {len(dates.vocab)} characters")
    model = build(settings, dates.vocab)
    trainer = fit(model, dates, settings, out / CHECKPOINT, checkpoint)
    show(model, dates)
    draw(model, dates, trainer, out)


def settle(settings: Settings, out: Path) -> tuple[Settings, Checkpoint | None]:
    """The settings that count, and the checkpoint that a resumed run goes on from."""
    checkpoint = None
    if settings.resume:
        checkpoint, earlier = load(out / CHECKPOINT)
        settings = resumed(settings, earlier)
    elif settings.quick:
        settings = dataclasses.replace(settings, data="made", hidden_size=32, epochs=1)
    return settings, checkpoint


def fit(
    model: AttentionSeq2seq, dates: DateData, settings: Settings, path: Path, checkpoint: Checkpoint | None
) -> Trainer:
    """Train from the beginning or from a checkpoint, and leave a new one in `path` after each epoch."""
    epochs = cli.epochs_of(settings.epochs, EPOCHS)
    characters = "".join(dates.vocab.tokens)
    if checkpoint is not None and checkpoint.extra["characters"] != characters:
        raise ValueError(f"{path} was trained on other dates than these: start afresh")
    # The source that "auto" found, so that a resumed run takes the same, whatever is at hand by then.
    known = {"data": dates.source, "epochs": epochs}
    extra = {"characters": characters, "settings": dataclasses.asdict(settings) | known}

    loader = DataLoader(dates.train, settings.batch_size, seed=settings.seed)
    optimizer = optim.Adam(model.parameters(), settings.lr, (0.9, settings.beta2), settings.eps)
    # In a straight line to 0 at the last step, so that the run ends where it is calm.
    decay = optim.LinearLR(optimizer, start_factor=1, end_factor=0, total_iters=epochs * len(loader))
    trainer = Trainer(
        model,
        optimizer,
        max_norm=settings.max_norm,
        callbacks=[
            Evaluation(lambda: {"accuracy": exact_match(model, dates.vocab, *dates.test)}),
            ProgressBar(count=lambda x, t: x.size + t.size),
            Schedule(decay),
            SaveCheckpoint(path, extra),
        ],
    )
    cli.fit(trainer, loader, epochs, checkpoint, path)
    return trainer


def load(path: Path) -> tuple[Checkpoint, Settings]:
    """A checkpoint that `train` left, and its settings; raises as `cli.load`."""
    return cli.load(path, Settings, "examples.dates", "characters")


def show(model: AttentionSeq2seq, dates: DateData) -> None:
    """Print ten held-out dates, what the model makes of them, and whether that is right."""
    vocab, (x, t) = dates.vocab, dates.test
    ids, _ = model.translate(x[:10], int(t[0, 0]), ANSWER_LENGTH)
    for question, answer, target in zip(x, ids, t, strict=False):
        right = "O" if (answer == target[1:]).all() else "X"
        print(f"{right}  {read(vocab, question)} → {read(vocab, answer)}  ({read(vocab, target[1:])})")


def draw(model: AttentionSeq2seq, dates: DateData, trainer: Trainer, out: Path) -> None:
    """Leave the pictures in `out`: learning curve, attention maps, computation graph of a step."""
    vocab, (x, t) = dates.vocab, dates.test
    ids, weights = model.translate(x[:5], int(t[0, 0]), ANSWER_LENGTH)
    questions = [read(vocab, question).rstrip() for question in x[:5]]
    maps = plot.attention_maps(
        [
            np.concatenate((w[:, : len(q)], w[:, len(q) :].sum(axis=1, keepdims=True)), axis=1)
            for w, q in zip(weights, questions, strict=True)
        ],
        [[*question, "…"] for question in questions],  # the spaces behind a question in one column
        [read(vocab, answer) for answer in ids],
    )
    print(plot.save(trainer.plot(), out / "learning_curve.png"))
    print(plot.save(maps, out / "attention.png"))
    loss = model(*(array[:128] for array in dates.train))
    loss.name = "loss"
    print(tn.draw(loss).save(out / "graph.svg"))
    print(out / CHECKPOINT)


def trained(out: str) -> tuple[AttentionSeq2seq, Vocab]:
    """The model that `train` left in a folder, and its characters; raises as `load`."""
    checkpoint, settings = load(Path(out) / CHECKPOINT)
    vocab = Vocab(checkpoint.extra["characters"], unk=None)
    model = build(settings, vocab)
    model.load_state_dict(checkpoint.weights)
    model.eval()
    return model, vocab


@command
def translate(question: tyro.conf.Positional[str], out: str = "runs/dates") -> None:
    """Write a date as 1994-09-27.

    Args:
        question: a date in one of the forms that the model was trained on
        out: folder in which `train` left its checkpoint
    """
    model, vocab = trained(out)
    question = question.strip()
    if not 0 < len(question) <= QUESTION_LENGTH:
        raise ValueError(f"{question!r} has {len(question)} characters; a date has at most {QUESTION_LENGTH}, and some")
    try:
        if START in question:
            raise ValueError(f"{START!r} is in no question: it begins the answer")
        x = vocab.encode(question.ljust(QUESTION_LENGTH))
    except ValueError as error:
        raise ValueError(f"{question!r}: {error}") from None
    ids, _ = model.translate(x[None], vocab[START], ANSWER_LENGTH)
    print(read(vocab, ids[0]))


@command
def evaluate(n: int = 5_000, seed: int = 1, out: str = "runs/dates") -> None:
    """Print the exact match on dates that are made for it: nobody chose a setting by looking at them.

    Args:
        n: how many dates
        seed: of the dates
        out: folder in which `train` left its checkpoint
    """
    model, vocab = trained(out)
    questions, answers = make_dates(n, seed)
    x = np.stack([vocab.encode(question.ljust(QUESTION_LENGTH)) for question in questions])
    t = np.stack([vocab.encode(START + answer) for answer in answers])
    print(f"{exact_match(model, vocab, x, t):.2%} of {n:,} dates made with seed {seed}")


if __name__ == "__main__":
    cli.write_utf8()
    tyro.extras.subcommand_cli_from_dict(
        {"train": train, "translate": translate, "evaluate": evaluate},
        prog="python -m examples.dates",
        description=__doc__,
    )
