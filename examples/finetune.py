"""C15 — pre-train a language model, then fine-tune it for sentiment (Dai and Le, 2015).

    python -m examples.finetune
    python -m examples.finetune --pretrained runs/lm      # from what `python -m examples.language_model train` left

The three stages of Howard and Ruder (2018). An LSTM language model reads the Penn Treebank; it goes on with the
sentences of SST-2, without their labels; its embedding and its LSTM then begin a classifier, which learns from 500
labelled sentences layer by layer from the top, each layer at a rate of its own. Beside it the same classifier learns
the same sentences from scratch. Printed is the share of test sentences that each gets right, seed by seed. In
runs/finetune/ are left the picture of both on their way, the figures of all runs (results.json), and the language
models, which `python -m examples.language_model generate --out runs/finetune/language_model` lets speak.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import tinygrad_nlp as tn
from examples import cli, language_model
from examples.cli import command, refuse_changes, refuse_idle
from examples.language_model import Trained
from examples.models.language_model import LanguageModel, RecurrentLM
from examples.models.sentiment import TextClassifier
from tinygrad_nlp import optim, plot
from tinygrad_nlp.data import Corpus, DataLoader, LabelledTexts, load_ptb, load_sst2, pad_sequences
from tinygrad_nlp.files import replace_file
from tinygrad_nlp.nn.functional import cross_entropy
from tinygrad_nlp.text import Vocab, Words
from tinygrad_nlp.training import Callback, Evaluation, ProgressBar, Schedule, Trainer, output_folder

STARTS = "from scratch", "pre-trained"
ACCURACY = "validation accuracy"
RESULTS, GENERAL, LM = "results.json", "general", "language_model"  # in the output folder

Part = tuple[np.ndarray, np.ndarray, np.ndarray]  # ids (N, T), lengths (N,), labels (N,)


@dataclass
class Settings:
    """Pre-train a language model, and fine-tune it for sentiment."""

    pretrained: str = ""
    """folder in which `examples.language_model train` left a model of words, to take for that of the Penn Treebank"""
    size: int = 128
    """of the vector of a word and of the LSTM's state"""
    general_epochs: int = 1
    """times through the Penn Treebank; 0 leaves this stage out"""
    lm_epochs: int = 6
    """times through the sentences without their labels"""
    lm_lr: float = 0.005
    """learning rate of Adam for the language models at the start; it falls to 0 on a cosine"""
    lm_dropout: float = 0.4
    """probability of dropping an element of what goes in and out of a language model's LSTM"""
    min_freq: int = 2
    """a word that occurs less often in the sentences is <unk>"""
    labelled: int = 500
    """sentences with labels to learn from, drawn anew for each seed"""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """of the labelled sentences, their order, the new weights and dropout: a run of each start for each seed"""
    epochs: int = 20
    """times through the labelled sentences"""
    batch_size: int = 50
    """labelled sentences in a batch"""
    lr: float = 0.03
    """learning rate of the pre-trained start's head; it falls to 0 in a straight line"""
    decay: float = 2.6
    """by what the rate is divided from a layer to the one below"""
    scratch_lr: float = 0.002
    """learning rate from scratch, the same for all layers, none of which is frozen"""
    dropout: float = 0.5
    """probability of dropping an element before and behind the classifier's LSTM"""
    max_norm: float = 1.0
    """gradients are clipped to this norm"""
    out: str = "runs/finetune"
    """folder for picture, figures and language model"""
    resume: bool = False
    """go on with what is in the folder, with its settings; others are refused, but --seeds may name more than there"""
    quick: bool = False
    """to see that it runs, in seconds: 300 sentences, size 16, two epochs, two seeds, no Penn Treebank"""


class Unfreezing(Callback):
    """Gradual unfreezing: in the first epoch only the last layer learns, in each further one the layer below, too.

    Args:
        layers: modules, from the input to the output; what is frozen in them stays so.
    """

    def __init__(self, *layers: Any) -> None:
        self.layers = [[parameter for parameter in layer.parameters() if parameter.requires_grad] for layer in layers]

    def on_start(self, trainer: Trainer) -> None:
        """Freeze all layers that it is not the time for."""
        for below, layer in enumerate(reversed(self.layers)):
            for parameter in layer:
                parameter.requires_grad = below <= trainer.epoch

    on_epoch = on_start


class OneLine(ProgressBar):
    """A bar that leaves no line for each epoch: a run has a row in the table."""

    def on_epoch(self, trainer: Trainer) -> None:
        """Nothing."""


def encode(part: LabelledTexts, vocab: Vocab) -> Part:
    """Sentences as the language model has read them: between the ends of sentences."""
    tokenize, eos = Words(), "<eos>"
    rows = [vocab.encode([eos, *tokenize(text), eos]) for text in part.texts]
    ids, mask = pad_sequences(rows, value=0)
    return ids, mask.sum(axis=1), part.labels


def accuracy(model: TextClassifier, part: Part, batch_size: int = 200) -> float:
    """The share of sentences whose class is found, in percent; the model is in evaluation mode."""
    found = []
    with tn.no_grad():
        for ids, lengths, labels in DataLoader(part, batch_size, shuffle=False):
            found.append(model(ids, lengths).data.argmax(axis=1) == labels)
    return 100 * float(np.concatenate(found).mean())


def pretrained(settings: Settings) -> Trained | None:
    """The language model that --pretrained names.

    Raises:
        ValueError: it is none of words with recurrent layers, or that which this run is to make.
    """
    if not settings.pretrained:
        return None
    if Path(settings.pretrained).resolve() == (Path(settings.out) / LM).resolve():
        raise ValueError(f"--pretrained {settings.pretrained} is where this run leaves its own: choose another --out")
    given = language_model.trained(settings.pretrained)
    if not isinstance(given.model, RecurrentLM) or given.tokenizer.state_dict() != Words().state_dict():
        raise ValueError(f"--pretrained {settings.pretrained} holds no recurrent language model of words")
    return given


def pretrain(settings: Settings, parts: Sequence[LabelledTexts], general: Trained | None) -> Trained:
    """The language model of the sentences, whose labels it does not see; it begins as a general one, given or made."""
    out = Path(settings.out)
    model = language_model.Settings(
        cell="lstm", embed_size=settings.size, hidden_size=settings.size, dropout=settings.lm_dropout, tie=True,
        optimizer="adam", lr=settings.lm_lr, schedule="cosine", max_norm=settings.max_norm,
    )  # fmt: skip
    if general is not None:
        same = ("cell", "embed_size", "hidden_size", "layers", "tie")
        model = dataclasses.replace(model, **{name: getattr(general.settings, name) for name in same})
    elif settings.general_epochs:
        to_general = dataclasses.replace(model, epochs=settings.general_epochs, out=str(out / GENERAL))
        general = read(to_general, load_ptb, settings.resume)

    tokenizer = Words()
    texts = ["\n".join(["", *part.texts, ""]) for part in parts]
    vocab = Vocab(tokenizer(texts[0]), settings.min_freq)
    corpus = Corpus(tokenizer, vocab, *(vocab.encode(tokenizer(text), vocab.dtype) for text in texts))
    model = dataclasses.replace(model, epochs=settings.lm_epochs, out=str(out / LM))
    return read(model, lambda: corpus, settings.resume, general)


def read(
    settings: language_model.Settings, corpus: Callable[[], Corpus], resume: bool, start: Trained | None = None
) -> Trained:
    """Train a language model on a corpus, or go on with that; it begins with the weights of another."""
    path, checkpoint = Path(settings.out) / language_model.CHECKPOINT, None
    if resume and path.is_file():
        checkpoint, earlier = language_model.load(path)
        settings = dataclasses.replace(earlier, out=settings.out)
    text = corpus()
    weights = None if start is None else adapt(start, language_model.build(settings, text.vocab), text.vocab)
    language_model.fit(settings, text, checkpoint, weights)
    return language_model.trained(settings.out)


def adapt(trained: Trained, model: LanguageModel, vocab: Vocab) -> dict[str, np.ndarray]:
    """The weights of a model for another vocabulary: words that both know keep their rows.

    Args:
        trained: the model, with its vocabulary.
        model: a new one of the same settings for the other vocabulary, from which the other words have theirs.
        vocab: that.

    Returns:
        The weights by name.
    """
    words = [word for word in vocab.tokens if word in trained.vocab]
    here, there = vocab.encode(words), trained.vocab.encode(words)
    weights = {name: array.copy() for name, array in model.state_dict().items()}
    for name, array in trained.model.state_dict().items():
        if name.startswith(("embed.", "out.")):  # a row for each word
            weights[name][here] = array[there]
        else:
            weights[name] = array
    return weights


def learn(
    settings: Settings, start: str, seed: int, lm: Trained, train: Part, valid: Part, test: Part
) -> dict[str, Any]:
    """Train a classifier from one start on some labelled sentences.

    Returns:
        "validation", its accuracy after each epoch in percent, and "test", that of the last.
    """
    tn.manual_seed(seed)
    sizes = lm.settings.embed_size, lm.settings.hidden_size
    model = TextClassifier(lm.settings.cell, len(lm.vocab), *sizes, 2, lm.settings.layers, settings.dropout)
    rows = np.random.default_rng(seed).permutation(len(train[0]))[: settings.labelled]
    loader = DataLoader(tuple(array[rows] for array in train), settings.batch_size, seed=seed)
    steps = settings.epochs * len(loader)
    layers = model.embed, model.rnn, model.head
    if start == "pre-trained":
        others = model.load_state_dict(lm.model.state_dict(), strict=False)
        assert all(name.startswith("head.") for name in others.missing_keys), others
        assert all(name.startswith("out.") for name in others.unexpected_keys), others
        rates = [settings.lr / settings.decay**below for below in (2, 1, 0)]
        groups = [{"params": layer.parameters(), "lr": lr} for layer, lr in zip(layers, rates, strict=True)]
        optimizer = optim.Adam(groups, lr=settings.lr)
    else:
        optimizer = optim.Adam(model.parameters(), lr=settings.scratch_lr)
    trainer = Trainer(
        model,
        optimizer,
        lambda ids, lengths, labels: cross_entropy(model(ids, lengths), labels),
        settings.max_norm,
        callbacks=[
            Evaluation(lambda: {ACCURACY: accuracy(model, valid)}),
            OneLine(unit="sentences"),
            Schedule(optim.LinearLR(optimizer, 1.0, 0.0, steps)),
            *([Unfreezing(*layers)] if start == "pre-trained" else []),
        ],
    )
    trainer.fit(loader, settings.epochs)
    model.eval()
    return {"validation": [value for _, value in trainer.history[ACCURACY]], "test": accuracy(model, test)}


def table(runs: dict[str, dict[str, Any]], seeds: tuple[int, ...]) -> dict[str, float]:
    """Print the test accuracies, and return their means."""
    figures = np.array([[runs[f"{start} {seed}"]["test"] for start in STARTS] for seed in seeds])
    figures = np.column_stack((figures, figures[:, 1] - figures[:, 0]))
    print(f"\ntest accuracy, %  {STARTS[0]:>13} {STARTS[1]:>13} {'gain':>6}")
    for seed, row in zip(seeds, figures, strict=True):
        print(f"{f'seed {seed}':16} {row[0]:14.2f} {row[1]:13.2f} {row[2]:+6.2f}")
    print(f"{'mean':16} {figures[:, 0].mean():14.2f} {figures[:, 1].mean():13.2f} {figures[:, 2].mean():+6.2f}")
    if len(seeds) > 1:
        spread = figures.std(axis=0, ddof=1)
        print(f"{'sd':16} {spread[0]:14.2f} {spread[1]:13.2f} {spread[2]:6.2f}")
    return dict(zip(STARTS, figures.mean(axis=0).tolist(), strict=False))


def picture(runs: dict[str, dict[str, Any]], seeds: tuple[int, ...]) -> Any:
    """Validation accuracy after each epoch: the mean of the seeds, and between which figures they lie."""
    curves, bands = {}, {}
    for start in reversed(STARTS):
        values = np.array([runs[f"{start} {seed}"]["validation"] for seed in seeds])
        epochs = np.arange(1, values.shape[1] + 1)
        curves[start], bands[start] = (epochs, values.mean(axis=0)), (values.min(axis=0), values.max(axis=0))
    title = f"mean, lowest and highest of {len(seeds)} seeds"
    return plot.lines(curves, "epoch", "validation accuracy, %", bands=bands, title=title)


@command
def main(settings: Settings) -> dict[str, float]:
    """Pre-train, fine-tune from both starts with each seed, and compare.

    Returns:
        The mean test accuracy of each start, in percent.
    """
    out = output_folder(settings.out)
    runs: dict[str, dict[str, Any]] = {}
    if settings.resume:
        if not (out / RESULTS).is_file():
            raise FileNotFoundError(f"there is no {out / RESULTS} to go on from: run without --resume first")
        earlier = json.loads((out / RESULTS).read_text(encoding="utf-8"))
        runs = earlier["runs"]
        refuse_changes(settings, Settings(**earlier["settings"]), but=("seeds", "out", "resume"))
        there = {**earlier["settings"], "seeds": settings.seeds, "out": settings.out, "resume": True}
        settings = Settings(**there)
    else:
        idle = dict.fromkeys(("size", "general_epochs"), (settings.pretrained, "with --pretrained"))
        refuse_idle(Settings, vars(settings), idle)
        if settings.quick:
            settings = dataclasses.replace(
                settings, size=16, general_epochs=0, lm_epochs=1, labelled=60, seeds=(0, 1), epochs=2
            )
    if min(settings.epochs, settings.lm_epochs, settings.labelled, len(settings.seeds)) < 1:
        raise ValueError("--epochs, --lm-epochs, --labelled and the number of --seeds must be at least 1")
    parts = [*load_sst2()]
    if settings.quick:
        parts = [LabelledTexts(part.texts[:300], part.labels[:300]) for part in parts]

    def keep() -> None:
        kept = {"settings": dataclasses.asdict(settings), "runs": runs}
        replace_file(out / RESULTS, json.dumps(kept, indent=1).encode())

    given = pretrained(settings)
    if not settings.resume:
        for stage in (LM,) if given else (GENERAL, LM):  # of a run before, with which --resume would go on
            (out / stage / language_model.CHECKPOINT).unlink(missing_ok=True)
    keep()
    lm = pretrain(settings, parts, given)
    train, valid, test = (encode(part, lm.vocab) for part in parts)
    for seed in settings.seeds:
        for start in STARTS:
            if f"{start} {seed}" not in runs:
                runs[f"{start} {seed}"] = learn(settings, start, seed, lm, train, valid, test)
                print(f"{start}, seed {seed}: test accuracy {runs[f'{start} {seed}']['test']:.2f} %")
                keep()
    print(plot.save(picture(runs, settings.seeds), out / "accuracy.png"))
    return table(runs, settings.seeds)


if __name__ == "__main__":
    cli.write_utf8()
    main(tyro.cli(Settings, prog="python -m examples.finetune", description=__doc__))
