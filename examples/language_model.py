"""C5, C7, C12 to C14 — language models of words, characters or pieces of words.

    python -m examples.language_model train                                       # LSTM on the Penn Treebank
    python -m examples.language_model train --text FILE --kind characters         # any text
    python -m examples.language_model generate --prompt "the company"
    python -m examples.language_model score "the market fell" "market the fell"
    python -m examples.language_model evaluate

`train` prints the perplexity on the validation part after each epoch and that of the best weights on the test part,
and leaves in runs/language_model/ the learning curve, a checkpoint, and the best weights, which the other commands
read. The default settings are those of the LSTM of *Deep Learning from Scratch 2*, ch. 6 (C12). The window is that of
Bengio et al. (2003), the models of characters are those of *Dive into Deep Learning*, ch. 9 and 10.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro

import tinygrad_nlp as tn
from examples import cli
from examples.cli import command, refuse_idle, resumed
from examples.corpora import Source, load_corpus, read, start_of, write
from examples.models.language_model import LanguageModel, RecurrentLM, WindowLM
from tinygrad_nlp import optim, plot
from tinygrad_nlp.data import Corpus, DataLoader, RandomWindows, SequentialWindows, read_tokens
from tinygrad_nlp.decoding import Sampler, beam_search, stream
from tinygrad_nlp.text import Tokenizer, Vocab
from tinygrad_nlp.training import (
    BPTT,
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
    perplexity,
    save_weights,
)

OUT = "runs/language_model"
EPOCHS = 4
CHECKPOINT, BEST, HALF = "checkpoint.safetensors", "best.safetensors", "best.float16.safetensors"
VALIDATION = "validation perplexity"


@dataclass
class Settings(Source):
    """How the model is made and trained."""

    cell: Literal["rnn", "lstm", "gru", "mlp"] = "lstm"
    """recurrent layers, or (mlp) a network that sees the last n - 1 tokens"""
    embed_size: int = 100
    """size of the vector of a token"""
    hidden_size: int = 100
    """size of the state, or of the hidden layer of mlp"""
    layers: int = 1
    """recurrent layers, one above the other; not for mlp"""
    dropout: float = 0.0
    """probability of dropping an element between layers"""
    variational: bool = False
    """all steps of a window drop the same elements of the layers' inputs and outputs, and of the state before the
    recurrent product (Gal and Ghahramani, 2016); needs --dropout, and is not for mlp"""
    tie: bool = False
    """the last layer has the weights of the embedding; needs equal sizes, and is not for mlp"""
    n: int = 5
    """mlp sees n - 1 tokens"""
    optimizer: Literal["sgd", "adam"] = "sgd"
    """what follows the gradient"""
    lr: float = 20.0
    """learning rate at the start: about 20 for sgd with clipping, 0.002 for adam"""
    schedule: Literal["plateau", "step", "cosine", "constant"] = "plateau"
    """learning rate: a quarter after an epoch that is not the best so far; or after every --step-size epochs; or down
    to 0 at the end; or as it is"""
    step_size: int = 1
    """epochs from one fall of the rate to the next, for --schedule step"""
    warmup: int = 0
    """steps in which the rate rises at first; not for plateau"""
    max_norm: float = 0.25
    """the gradient is clipped to this norm"""
    windows: Literal["sequential", "random"] = "sequential"
    """the text is read in order with the state carried on, or in windows at random without"""
    batch_size: int = 20
    """places of the text that are read at once"""
    num_steps: int = 35
    """tokens of a window"""
    bptt_window: int = 0
    """the gradient is cut within a window too, after every so many steps; 0 does not (sequential only, not for mlp)"""
    keep: float = 0.0
    """such a cut lets the gradient through with this probability, and then so much more of it (random truncation)"""
    epochs: Annotated[int | None, cli.epochs(EPOCHS)] = None
    """times through the text, those before a resumption included"""
    seed: int = 0
    """of the weights, and of the order of random windows"""
    out: str = OUT
    """folder for picture, checkpoint and best weights"""
    resume: bool = False
    """go on from the checkpoint in the folder, with its settings; others are refused, but --epochs counts where it is
    more than there"""
    quick: bool = False
    """to see that it runs, in seconds: 20,000 tokens, sizes of 32 and one epoch, whatever else is given"""


def refuse_idle_settings(settings: Settings) -> None:
    """Refuse what has no effect beside the other settings.

    Raises:
        ValueError: there is something; the message names it.
    """
    mlp = settings.cell == "mlp"
    idle = {
        "layers": (mlp, "with --cell mlp, which has one hidden layer"),
        "variational": (mlp or not settings.dropout, "without a recurrent --cell and --dropout"),
        "tie": (mlp, "with --cell mlp"),
        "n": (not mlp, "without --cell mlp"),
        "step_size": (settings.schedule != "step", "without --schedule step"),
        "warmup": (settings.schedule == "plateau", "with --schedule plateau, which counts no steps"),
        "bptt_window": (
            mlp or settings.windows == "random",
            "without a recurrent --cell and --windows sequential, whose gradient it cuts",
        ),
        "keep": (not settings.bptt_window, "without --bptt-window"),
    }
    refuse_idle(Settings, vars(settings), idle)


def build(settings: Settings, vocab: Vocab) -> LanguageModel:
    """The model."""
    sizes = len(vocab), settings.embed_size, settings.hidden_size
    if settings.cell == "mlp":
        return WindowLM(settings.n, *sizes, dropout=settings.dropout)
    return RecurrentLM(settings.cell, *sizes, settings.layers, settings.dropout, settings.tie, settings.variational)


def corpus_of(settings: Settings) -> Corpus:
    """The text, or its beginning."""
    corpus = load_corpus(settings)
    if not settings.quick:
        return corpus
    return dataclasses.replace(
        corpus, train=corpus.train[:20_000], valid=corpus.valid[:2_000], test=corpus.test[:2_000]
    )


def loader_of(settings: Settings, ids: np.ndarray) -> DataLoader:
    """The batches of a text.

    Raises:
        ValueError: it is too short.
    """
    if len(ids) <= settings.num_steps:
        raise ValueError(
            f"the text has {len(ids)} tokens to train on, and a window needs {settings.num_steps + 1}: "
            "give a longer text or a smaller --num-steps"
        )
    if settings.windows == "random":
        return RandomWindows(ids, settings.batch_size, settings.num_steps, settings.seed)
    return SequentialWindows(ids, settings.batch_size, settings.num_steps)


def schedule_of(settings: Settings, optimizer: optim.Optimizer, epochs: int, steps: int) -> list[Callback]:
    """The learning rate's schedule, for so many epochs of so many steps."""
    if settings.schedule == "plateau":
        return [Schedule(optim.ReduceLROnPlateau(optimizer, factor=0.25, patience=0, threshold=0.0), VALIDATION)]
    rate: optim.LRScheduler = optim.LambdaLR(optimizer, lambda step: 1.0)
    if settings.schedule == "step":
        rate = optim.StepLR(optimizer, settings.step_size * steps, gamma=0.25)
    elif settings.schedule == "cosine":
        rate = optim.CosineAnnealingLR(optimizer, max(1, epochs * steps - settings.warmup))
    return [Schedule(optim.Warmup(rate, settings.warmup) if settings.warmup else rate)]


@command
def train(settings: Annotated[Settings, tyro.conf.OmitArgPrefixes]) -> float:
    """Train a model, and print what its best weights come to.

    Returns:
        The perplexity on the test part.
    """
    out = output_folder(settings.out)
    checkpoint = None
    if settings.resume:
        checkpoint, earlier = load(out / CHECKPOINT)
        settings = resumed(settings, earlier)
    else:
        refuse_idle_settings(settings)
        if settings.quick:
            settings = dataclasses.replace(settings, embed_size=32, hidden_size=32, epochs=1)
    return fit(settings, corpus_of(settings), checkpoint)


def fit(
    settings: Settings,
    corpus: Corpus,
    checkpoint: Checkpoint | None = None,
    weights: Mapping[str, np.ndarray] | None = None,
) -> float:
    """Train a model on a corpus, and print what its best weights come to; it leaves all that `train` leaves.

    Args:
        settings: those of `Source` and `quick` are not looked at.
        corpus: ids in three parts.
        checkpoint: to go on from.
        weights: of the model at the start, by name; new ones by default.

    Returns:
        The perplexity on the test part.
    """
    out = output_folder(settings.out)
    epochs = cli.epochs_of(settings.epochs, EPOCHS)
    tn.manual_seed(settings.seed)
    if min(len(corpus.valid), len(corpus.test)) < 2:
        raise ValueError(f"the text has {len(corpus.train)} tokens to train on and none to test: give a longer text")
    if checkpoint is not None and vocab_of(checkpoint) != corpus.vocab:
        raise ValueError(f"{out / CHECKPOINT} was trained on another text: its vocabulary is not that of this one")
    loader = loader_of(settings, corpus.train)
    print(
        f"{len(corpus.train):,} tokens to train on, {len(corpus.valid):,} to validate, {len(corpus.test):,} to test, "
        f"a vocabulary of {len(corpus.vocab):,}"
    )

    model = build(settings, corpus.vocab)
    if weights is not None:
        model.load_state_dict(weights)
    rule = {"sgd": optim.SGD, "adam": optim.Adam}[settings.optimizer]
    optimizer = rule(model.parameters(), lr=settings.lr)
    extra = {
        "settings": dataclasses.asdict(settings) | {"epochs": epochs},
        "tokenizer": corpus.tokenizer.state_dict(),
        "vocab": corpus.vocab.state_dict(),
    }
    trainer = Trainer(
        model,
        optimizer,
        BPTT(model, settings.bptt_window or None, settings.keep)
        if settings.windows == "sequential"
        else lambda x, y: model.loss(x, y)[0],
        settings.max_norm,
        callbacks=[
            Evaluation(lambda: {VALIDATION: perplexity(model, corpus.valid)}),
            ProgressBar(),
            *schedule_of(settings, optimizer, epochs, len(loader)),
            best := KeepBest(out / BEST, VALIDATION),
            SaveCheckpoint(out / CHECKPOINT, extra),
        ],
    )
    cli.fit(trainer, loader, epochs, checkpoint, out / CHECKPOINT)
    if best.best is not None:
        load_weights(model, best.path)
    figure = perplexity(model, corpus.test)
    print(f"test perplexity {figure:.2f}")
    print(plot.save(trainer.plot(), out / "learning_curve.png"))
    print(out / CHECKPOINT)
    return figure


def load(path: Path) -> tuple[Checkpoint, Settings]:
    """A checkpoint that `train` left, and its settings; raises as `cli.load`."""
    return cli.load(path, Settings, "examples.language_model", "vocab", "tokenizer")


def vocab_of(checkpoint: Checkpoint) -> Vocab:
    """The vocabulary of a run."""
    return Vocab.from_state_dict(checkpoint.extra["vocab"])


@dataclass
class Trained:
    """What a run has come to: its best weights, and how it reads and writes."""

    model: LanguageModel
    settings: Settings
    tokenizer: Tokenizer
    vocab: Vocab

    def read(self, text: str) -> np.ndarray:
        """The ids of a text; says which tokens are not known."""
        return read(self.tokenizer, self.vocab, text)

    @property
    def eos(self) -> int | None:
        """The id of a sentence's end, where there is one."""
        tokens = self.vocab.tokens
        return tokens.index("<eos>") if "<eos>" in tokens else None


def trained(out: str) -> Trained:
    """What `train` left in a folder.

    Raises:
        FileNotFoundError: there is nothing.
        ValueError: a file is cut short, or of something else.
    """
    folder = Path(out)
    checkpoint, settings = load(folder / CHECKPOINT)
    vocab = vocab_of(checkpoint)
    model = build(settings, vocab)
    model.load_state_dict(checkpoint.weights)
    found = {state["callback"]: state for state in checkpoint.callbacks}
    if found["KeepBest"]["best"] is not None:  # else the file is of an earlier run
        load_weights(model, folder / BEST)
    model.eval()
    return Trained(model, settings, Tokenizer.from_state_dict(checkpoint.extra["tokenizer"]), vocab)


@command
def generate(
    prompt: str = "",
    out: str = OUT,
    length: int = 60,
    greedy: bool = False,
    beam: int = 0,
    length_penalty: float = 0.0,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: bool = False,
    seed: int = 0,
) -> str:
    """Write a text, token by token.

    Args:
        prompt: how it begins; by default behind the end of a sentence or of a line, or behind a space
        out: folder in which `train` left its checkpoint
        length: tokens to write at most
        greedy: always the most probable token
        beam: the most probable of all texts that beam search of this width finds
        length_penalty: for beam search: above 0 longer texts win
        temperature: below 1 more probable tokens, above 1 less
        top_k: only the k most probable tokens
        top_p: only the most probable tokens that have this probability together
        stop: end at a sentence's end
        seed: of the random numbers; the same seed gives the same text

    Returns:
        The text.
    """
    run = trained(out)
    drawing = ("temperature", "top_k", "top_p", "seed")
    idle = {
        **dict.fromkeys(drawing, (greedy or beam, "with --greedy or --beam, which draw no random numbers")),
        "greedy": (beam, "with --beam"),
        "length_penalty": (not beam, "without --beam"),
        "stop": (run.eos is None, "without <eos> in the vocabulary, as a model of lines of words has it"),
    }
    refuse_idle(generate, locals(), idle)
    begun = start = run.read(prompt)
    if not len(start):
        start = np.array([start_of(run.vocab)])
    end = run.eos if stop else None
    if beam:
        found = beam_search(run.model.step, None, start[None], length, beam, end, length_penalty, run.model.select)
        return write(run.tokenizer, run.vocab, begun, found[0][0].ids[:, None])
    choose = None if greedy else Sampler(temperature, top_k, top_p, seed)
    return write(run.tokenizer, run.vocab, begun, stream(run.model.step, None, start[None], length, end, choose))


@command
def score(sentences: tyro.conf.Positional[list[str]], out: str = OUT) -> list[str]:
    """Rank sentences, the most probable first, with the logarithms of their probabilities.

    Args:
        sentences: texts of the kind that the model was trained on
        out: folder in which `train` left its checkpoint

    Returns:
        The sentences in their order.
    """
    if not sentences:
        raise ValueError("there is no sentence to score: name one or more")
    run = trained(out)
    scored = []
    for sentence in sentences:
        ids = np.concatenate(([start_of(run.vocab)], run.read(sentence if run.eos is None else f"{sentence}\n")))
        if len(ids) < 2:
            raise ValueError(f"{sentence!r} has no tokens to score")
        log_p = -math.log(perplexity(run.model, ids, batch_size=1)) * (len(ids) - 1)
        scored.append((log_p, math.exp(-log_p / (len(ids) - 1)), sentence))
    scored.sort(reverse=True)
    for log_p, figure, sentence in scored:
        print(f"log P {log_p:9.2f}  perplexity {figure:9.1f}  {sentence}")
    return [sentence for _, _, sentence in scored]


@command
def evaluate(out: str = OUT, text: str = "", half: bool = False) -> float:
    """Print the perplexity on the test part, or on another text.

    Args:
        out: folder in which `train` left its checkpoint
        text: a file, which is read with the vocabulary of the model
        half: store the weights as float16, in half the size, and evaluate what is read from there

    Returns:
        The perplexity.
    """
    run = trained(out)
    if half:
        stored, whole = Path(out) / HALF, sum(array.nbytes for array in run.model.state_dict().values())
        save_weights(run.model, stored, np.float16)
        load_weights(run.model, stored)
        print(f"{stored}: {stored.stat().st_size:,} bytes, for weights of {whole:,}")
    if text:
        ids = run.vocab.encode(read_tokens(text, run.tokenizer), run.vocab.dtype)
    else:
        corpus = corpus_of(run.settings)
        if corpus.vocab != run.vocab:
            raise ValueError(f"{out} was trained on another text than {run.settings.text or run.settings.data} is now")
        ids = corpus.test
    if len(ids) < 2:
        raise ValueError(f"{text or run.settings.text} has {len(ids)} tokens: two or more are needed")
    unknown = 0.0 if run.vocab.unk is None else float((ids == run.vocab.unk).mean())
    figure = perplexity(run.model, ids)
    print(f"perplexity {figure:.4f} on {len(ids):,} tokens, of which {unknown:.1%} are <unk>")
    return figure


if __name__ == "__main__":
    cli.write_utf8()
    tyro.extras.subcommand_cli_from_dict(
        {"train": train, "generate": generate, "score": score, "evaluate": evaluate},
        prog="python -m examples.language_model",
        description=__doc__,
    )
