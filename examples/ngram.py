"""C3, C4 — what counting alone can do: Zipf's law, and n-gram language models (*Dive into Deep Learning*, 9.2 and 9.3).

    python -m examples.ngram perplexity
    python -m examples.ngram generate --prompt "the company said"
    python -m examples.ngram score "the market fell" "market the fell" "fell the market"
    python -m examples.ngram zipf

All take `--data time_machine` or `--text FILE`. `perplexity` compares Laplace's smoothing with that of Kneser and Ney;
`score` ranks sentences by their probability. `perplexity` and `zipf` leave their pictures in runs/ngram/.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import tyro

from examples import cli
from examples.cli import command
from examples.corpora import Source, load_corpus, read, start_of, write
from tinygrad_nlp import plot
from tinygrad_nlp.data import Corpus
from tinygrad_nlp.decoding import Sampler, stream
from tinygrad_nlp.text import KneserNeyNGram, LaplaceNGram, Words, ngram_counts, zipf_exponent
from tinygrad_nlp.training import output_folder

NAMES = ("unigram", "bigram", "trigram")


@dataclass
class Settings(Source):
    """The text, and how far a model looks back."""

    n: int = 5
    """the longest n-gram: a model looks n - 1 tokens back"""


Flags = Annotated[Settings, tyro.conf.OmitArgPrefixes]


def eos(corpus: Corpus) -> int | None:
    """The id of a sentence's end, in a text of words."""
    ends = isinstance(corpus.tokenizer, Words) and "<eos>" in corpus.vocab
    return corpus.vocab["<eos>"] if ends else None


def model(settings: Settings, corpus: Corpus) -> KneserNeyNGram:
    """The better of the two smoothings."""
    return KneserNeyNGram(corpus.train, settings.n, len(corpus.vocab), eos(corpus))


@command
def perplexity(settings: Flags, out: str = "runs/ngram") -> dict[str, list[float]]:
    """Print and draw the perplexities of the models of 1 to n tokens.

    Args:
        settings: the text, and the longest n-gram
        out: folder for the picture

    Returns:
        Those on the test part, by the name of the smoothing, from n = 1 on.
    """
    if settings.n < 1:
        raise ValueError(f"--n must be at least 1, not {settings.n}")
    folder = output_folder(out)
    corpus = load_corpus(settings)
    size = len(corpus.vocab)
    print(f"{len(corpus.train):,} tokens to train on, {len(corpus.test):,} to test, a vocabulary of {size:,}")
    found: dict[str, list[float]] = {"Laplace": [], "Kneser-Ney": []}
    for n in range(1, settings.n + 1):
        laplace = LaplaceNGram(corpus.train, n, size, eos=eos(corpus))
        kneser_ney = KneserNeyNGram(corpus.train, n, size, eos=eos(corpus))
        line = f"n = {n}"
        for name, ngram in (("Laplace", laplace), ("Kneser-Ney", kneser_ney)):
            found[name].append(ngram.perplexity(corpus.test))
            line += f"   {name}: validation {ngram.perplexity(corpus.valid):8.1f}  test {found[name][-1]:8.1f}"
        print(line)
    curves = {name: (range(1, settings.n + 1), figures) for name, figures in found.items()}
    print(plot.save(plot.lines(curves, "$n$", "test perplexity", log_y=True), folder / "perplexity.png"))
    return found


@command
def generate(
    settings: Flags,
    prompt: str = "",
    length: int = 60,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
) -> str:
    """Write a text, token by token.

    Args:
        settings: the text that was counted
        prompt: how it begins
        length: tokens to write at most
        temperature: below 1 more probable tokens, above 1 less
        top_k: only the k most probable tokens
        top_p: only the most probable tokens that have this probability together
        seed: of the random numbers; the same seed gives the same text

    Returns:
        The text.
    """
    corpus = load_corpus(settings)
    begun = start = read(corpus.tokenizer, corpus.vocab, prompt)
    if not len(start):
        start = np.array([start_of(corpus.vocab)])
    choose = Sampler(temperature, top_k, top_p, seed)
    ids = stream(model(settings, corpus).step, None, start[None], length, choose=choose)
    return write(corpus.tokenizer, corpus.vocab, begun, ids)


@command
def score(sentences: tyro.conf.Positional[list[str]], settings: Flags) -> list[str]:
    """Rank sentences, the most probable first, with the logarithms of their probabilities.

    Args:
        sentences: texts of the kind that was counted
        settings: the text that was counted

    Returns:
        The sentences in their order.
    """
    if not sentences:
        raise ValueError("there is no sentence to score: name one or more")
    corpus = load_corpus(settings)
    ngram = model(settings, corpus)
    ends = "" if eos(corpus) is None else "\n"
    scored = []
    for sentence in sentences:
        log_p = ngram.log_probabilities(read(corpus.tokenizer, corpus.vocab, sentence + ends))
        if not len(log_p):
            raise ValueError(f"{sentence!r} has no tokens to score")
        scored.append((float(log_p.sum()), float(np.exp(-log_p.mean())), sentence))
    scored.sort(reverse=True)
    for log_p_of_all, perplexity, sentence in scored:
        print(f"log P {log_p_of_all:9.2f}  perplexity {perplexity:9.1f}  {sentence}")
    return [sentence for _, _, sentence in scored]


@command
def zipf(settings: Annotated[Source, tyro.conf.OmitArgPrefixes], out: str = "runs/ngram") -> dict[str, float]:
    """Draw how often the i-th most frequent token, pair and triple occur, and print the exponents of Zipf's law.

    Args:
        settings: the text
        out: folder for the picture

    Returns:
        α, by name.
    """
    folder = output_folder(out)
    corpus = load_corpus(settings)
    ids = np.concatenate((corpus.train, corpus.valid, corpus.test))
    counts = {name: ngram_counts(ids, n) for n, name in enumerate(NAMES, start=1)}
    alphas = {name: zipf_exponent(n)[0] for name, n in counts.items()}
    for name, n in counts.items():
        print(f"{name:8} {len(n):9,} different, the most frequent {n[0]:7,} times, α = {alphas[name]:.3f}")
    print(plot.save(plot.zipf(counts), folder / "zipf.png"))
    return alphas


if __name__ == "__main__":
    cli.write_utf8()
    tyro.extras.subcommand_cli_from_dict(
        {"perplexity": perplexity, "generate": generate, "score": score, "zipf": zipf},
        prog="python -m examples.ngram",
        description=__doc__,
    )
