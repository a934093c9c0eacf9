"""The examples, run as their readers run them, on little data."""

import contextlib
import dataclasses
import functools
import io
import itertools
import math
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tyro", reason="examples need the extra `examples`")
pytest.importorskip("matplotlib", reason="examples need the extra `examples`")

from examples import corpora, dates, language_model, ngram, spiral
from examples.models.language_model import RecurrentLM
from tinygrad_nlp import nn
from tinygrad_nlp.data import DataLoader, load_dates, make_dates
from tinygrad_nlp.optim import SGD
from tinygrad_nlp.text import BPE, Characters, Vocab, Words
from tinygrad_nlp.training import Checkpoint, save_weights

ROOT = Path(__file__).parents[1]
PNG = b"\x89PNG"


def command_line(*arguments, code=0):
    """Run a script in an interpreter of its own; gives what it prints, on one line each, without frames.

    Where it prints to, there is no other letter than those of ASCII, unless it asks for them.
    """
    done = subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert done.returncode == code, done.stderr
    return re.sub(r"[│╭╮╰╯─\s]+", " ", done.stdout), done.stderr


# --- dates ------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """`train --quick`: the folder that it leaves, and what it prints."""
    out = tmp_path_factory.mktemp("dates") / "new" / "folder"
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        dates.train(dates.Settings(quick=True, out=str(out)))
    return out, printed.getvalue()


@pytest.fixture
def few_dates(monkeypatch):
    """270 dates to train on and 30 to test."""
    monkeypatch.setattr(dates, "load_dates", functools.partial(dates.load_dates, n=300))


SMALL = dates.Settings(data="made", hidden_size=8, embed_size=4, batch_size=64)


def test_training_leaves_pictures_and_a_checkpoint(quick):
    out, printed = quick
    try:
        import pygraphviz  # noqa: F401

        drawn = "graph.svg"
    except ImportError:
        drawn = "graph.svg" if shutil.which("dot") else "graph.dot"
    assert {path.name for path in out.iterdir()} == {
        "attention.png", "checkpoint.safetensors", "learning_curve.png", drawn
    }  # fmt: skip
    for name in ("attention.png", "learning_curve.png"):
        assert (out / name).read_bytes().startswith(PNG)
        assert str(out / name) in printed
    graph = (out / drawn).read_text(encoding="utf-8")
    for label in ("AttentionSeq2seq", "encoder", "decoder", "lstm", "attention", "cross_entropy"):
        assert label in graph


def test_training_prints_ten_dates_and_whether_they_are_right(quick):
    _, printed = quick
    assert printed.startswith("900 dates to train on, 100 to test (made), ")
    assert re.search(r"^epoch 1/1  loss [\d.]+  accuracy [\d.]+$", printed, re.MULTILINE)
    shown = re.findall(r"^([OX])  (.{29}) → (.{10})  \((\d{4}-\d\d-\d\d)\)$", printed, re.MULTILINE)
    assert len(shown) == 10
    assert all((right == "O") == (answer == target) for right, _, answer, target in shown)


def test_the_checkpoint_holds_all_that_a_reader_of_dates_needs(quick):
    checkpoint = Checkpoint.load(quick[0] / "checkpoint.safetensors")
    assert checkpoint.extra["settings"]["hidden_size"] == 32
    assert checkpoint.extra["settings"]["data"] == "made"
    assert len(checkpoint.history["loss"]) == 8
    assert [x for x, _ in checkpoint.history["accuracy"]] == [1]


def test_evaluate_makes_the_same_dates_again_for_the_same_seed(quick, capsys):
    lines = []
    for seed in (1, 1, 2):
        dates.evaluate(n=50, seed=seed, out=str(quick[0]))
        lines.append(capsys.readouterr().out)
    assert re.fullmatch(r"\d+\.\d\d% of 50 dates made with seed 1\n", lines[0])
    assert lines[0] == lines[1]
    assert lines[2].endswith("seed 2\n")


def test_evaluate_counts_what_is_right(quick, monkeypatch, capsys):
    def answers(model, x, start, length):
        return t[:, 1:], None

    data = load_dates("made", n=1_000)
    _, written = make_dates(20, 3)
    t = np.stack([data.vocab.encode("_" + answer) for answer in written])
    t[0, 5] += 1
    monkeypatch.setattr(dates.AttentionSeq2seq, "translate", answers)
    dates.evaluate(n=20, seed=3, out=str(quick[0]))
    assert capsys.readouterr().out.startswith("95.00% of 20 dates")


def test_translate_writes_a_date(quick, capsys):
    out, _ = quick
    written = []
    for _ in range(2):
        dates.translate("sep 27, 1994", str(out))
        written.append(capsys.readouterr().out)
    assert re.fullmatch(r".{10}\n", written[0])
    assert written[0] == written[1]


@pytest.mark.parametrize(
    ("question", "message"),
    [
        ("sep 27, 1994!", "'sep 27, 1994!': '!' at position 12 is not in the vocabulary"),
        ("9월 27일", "'월' at position 1"),
        ("sep 27_ 1994", "'_' is in no question: it begins the answer"),
        ("WEDNESDAY, SEPTEMBER 10, 1997.", "has 30 characters; a date has at most 29"),
    ],
)
def test_translate_refuses_what_it_cannot_read_and_says_why(quick, question, message):
    with pytest.raises(SystemExit) as end:
        dates.translate(question, str(quick[0]))
    assert message in end.value.code


def test_translate_without_a_checkpoint_says_how_to_get_one(tmp_path):
    with pytest.raises(SystemExit) as end:
        dates.translate("sep 27, 1994", str(tmp_path))
    assert f"there is no {tmp_path / 'checkpoint.safetensors'}" in end.value.code
    assert "examples.dates train" in end.value.code


def test_translate_names_a_checkpoint_that_is_cut_short_or_none(quick, tmp_path):
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes((quick[0] / "checkpoint.safetensors").read_bytes()[:-1])
    with pytest.raises(SystemExit, match=re.escape(f"{path} is cut short")):
        dates.translate("sep 27, 1994", str(tmp_path))
    save_weights(nn.Linear(2, 2), path)
    with pytest.raises(SystemExit, match=re.escape(f"{path} holds weights, but no training state")):
        dates.translate("sep 27, 1994", str(tmp_path))


def test_a_question_is_translated_the_same_alone_and_among_others(quick):
    checkpoint = Checkpoint.load(quick[0] / "checkpoint.safetensors")
    vocab = dates.Vocab(checkpoint.extra["characters"], unk=None)
    model = dates.build(dates.Settings(**checkpoint.extra["settings"]), vocab)
    model.load_state_dict(checkpoint.weights)
    x = np.stack([vocab.encode(question.ljust(29)) for question in ("9/27/94", "sep 27, 1994", "MAY 1, 2001")])
    together, weights = model.translate(x, 0, 10)
    assert together.shape == (3, 10)
    assert weights.shape == (3, 10, 29)
    np.testing.assert_allclose(weights.sum(axis=2), 1, rtol=1e-5)
    alone, _ = model.translate(x[1:2], 0, 10)
    assert np.array_equal(alone[0], together[1])


def test_exact_match_counts_whole_answers():
    class Parrot:
        def translate(self, x, start, length):
            return x[:, :length], None

    vocab = dates.Vocab("_0123456789-", unk=None)
    x = np.random.default_rng(0).integers(12, size=(1203, 29))
    t = np.concatenate([np.zeros((1203, 1), int), x[:, :10]], axis=1)
    assert dates.exact_match(Parrot(), vocab, x, t) == 1
    t[::3, 7] += 1
    assert dates.exact_match(Parrot(), vocab, x, t) == 802 / 1203


def outcome(out):
    """What a run has come to: all of its checkpoint but the settings."""
    checkpoint = Checkpoint.load(out / "checkpoint.safetensors")
    arrays = checkpoint.weights | checkpoint.optimizer.pop("arrays")
    return (
        {name: array.tobytes() for name, array in arrays.items()},
        checkpoint.optimizer,
        checkpoint.loader,
        checkpoint.random,
        checkpoint.history,
    )


@pytest.mark.parametrize("stopped", ["in the evaluation", "in a step"])
def test_resume_goes_on_as_if_the_run_had_never_stopped(few_dates, tmp_path, monkeypatch, capsys, stopped):
    def settings(**changes):
        return dataclasses.replace(SMALL, **{"epochs": 2, "out": str(tmp_path / "whole"), **changes})

    dates.train(settings())
    part = str(tmp_path / "part")
    with monkeypatch.context() as patch:
        if "evaluation" in stopped:
            patch.setattr(dates, "exact_match", interrupted(dates.exact_match, at_call=1))
        else:
            patch.setattr(dates.AttentionSeq2seq, "forward", interrupted(dates.AttentionSeq2seq.forward, at_call=3))
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            dates.train(settings(out=part))
    assert end.value.code == 130
    steps = 5 if "evaluation" in stopped else 3
    assert f"interrupted after {steps} steps; --resume goes on from" in capsys.readouterr().out
    dates.train(dates.Settings(resume=True, out=part))  # its settings are the old ones
    assert outcome(tmp_path / "part") == outcome(tmp_path / "whole")


def interrupted(function, at_call):
    """The function, with Ctrl-C during one of its calls."""
    calls = []

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        calls.append(None)
        if len(calls) == at_call:
            signal.raise_signal(signal.SIGINT)
        return function(*args, **kwargs)

    return wrapper


def test_a_second_interrupt_promises_no_checkpoint(few_dates, tmp_path, monkeypatch, capsys):
    def interrupt_twice(*_):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(dates.AttentionSeq2seq, "forward", interrupt_twice)
    with pytest.raises(SystemExit) as end:
        dates.train(dataclasses.replace(SMALL, out=str(tmp_path)))
    assert end.value.code == 130
    assert "--resume" not in capsys.readouterr().out
    assert Checkpoint.load(tmp_path / "checkpoint.safetensors").history == {}  # that of the beginning


def test_a_quick_run_can_be_resumed_for_longer(quick, tmp_path, capsys):
    shutil.copy(quick[0] / "checkpoint.safetensors", tmp_path)
    dates.train(dates.Settings(resume=True, epochs=2, out=str(tmp_path)))
    assert capsys.readouterr().out.startswith("900 dates")
    assert len(Checkpoint.load(tmp_path / "checkpoint.safetensors").history["loss"]) == 16


def test_resume_with_other_dates_is_refused_and_the_checkpoint_stays(few_dates, tmp_path, monkeypatch):
    settings = dataclasses.replace(SMALL, epochs=1, out=str(tmp_path))
    dates.train(settings)
    before = (tmp_path / "checkpoint.safetensors").read_bytes()
    found = dates.load_dates("made")
    others = dataclasses.replace(found, vocab=dates.Vocab([*found.vocab.tokens, "é"], unk=None))
    monkeypatch.setattr(dates, "load_dates", lambda source: others)
    with pytest.raises(SystemExit, match=r"checkpoint\.safetensors was trained on other dates"):
        dates.train(dataclasses.replace(settings, resume=True, epochs=2))
    fewer = dataclasses.replace(found, train=tuple(array[:-1] for array in found.train))
    monkeypatch.setattr(dates, "load_dates", lambda source: fewer)
    with pytest.raises((SystemExit, ValueError), match="rows = 270, this loader has rows = 269"):
        dates.train(dataclasses.replace(settings, resume=True, epochs=2))
    assert (tmp_path / "checkpoint.safetensors").read_bytes() == before


def test_resume_without_a_checkpoint_names_it(few_dates, tmp_path):
    with pytest.raises(SystemExit, match=r"there is no .*checkpoint\.safetensors"):
        dates.train(dataclasses.replace(SMALL, resume=True, out=str(tmp_path)))


def test_resume_from_another_example_is_refused_by_name(few_dates, tmp_path):
    model = nn.Linear(2, 2)
    loader = DataLoader((np.zeros((4, 2)),), 2)
    Checkpoint.of(model, SGD(model.parameters(), lr=0.1), loader).save(tmp_path / "checkpoint.safetensors")
    with pytest.raises(SystemExit, match=r"checkpoint\.safetensors is not a checkpoint of examples\.dates"):
        dates.train(dataclasses.replace(SMALL, resume=True, out=str(tmp_path)))
    with pytest.raises(SystemExit, match=r"checkpoint\.safetensors is not a checkpoint of examples\.dates"):
        dates.translate("sep 27, 1994", str(tmp_path))


def test_a_folder_that_cannot_be_written_to_is_named_before_any_training(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setattr(dates, "load_dates", None)  # not reached
    with pytest.raises(SystemExit, match=re.escape(str(tmp_path / "file" / "folder"))):
        dates.train(dataclasses.replace(SMALL, out=str(tmp_path / "file" / "folder")))


def test_the_command_line_shows_every_setting_with_its_default():
    shown, _ = command_line("examples.dates", "train", "--help")
    for field in dataclasses.fields(dates.Settings):
        flag = "--" + field.name.replace("_", "-")
        found = re.search(rf"{flag}[ ,].*?\(default: (.*?)\)", shown)
        assert found, f"{flag} is not shown"
        default = "3; of a resumed run, as many as it had" if field.name == "epochs" else str(field.default)
        assert " ".join(found[1].replace("│", "").split()) == default, flag


def test_the_name_of_a_file_that_is_no_text_is_printed_all_the_same():
    _, error = command_line("examples.dates", "translate", "sep 27, 1994", "--out", "no\udcff", code=1)
    assert re.match(r"error: there is no no\S+checkpoint\.safetensors", error)


def test_the_command_line_ends_without_a_traceback(tmp_path):
    _, error = command_line("examples.dates", "translate", "sep 27, 1994", "--out", str(tmp_path), code=1)
    assert error.count("\n") == 1
    assert "there is no" in error


# --- spiral -----------------------------------------------------------------------------------------------------------


def test_the_spiral_leaves_two_pictures_and_its_loss(tmp_path, capsys):
    loss = spiral.main(spiral.Settings(epochs=3, out=str(tmp_path / "new")))
    assert math.isfinite(loss)
    assert {path.name for path in (tmp_path / "new").iterdir()} == {"boundary.png", "learning_curve.png"}
    assert all(path.read_bytes().startswith(PNG) for path in (tmp_path / "new").iterdir())
    printed = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"loss {loss:.2f} at epoch 3, accuracy [\d.]+%", printed[0])
    assert printed[1:] == [str(tmp_path / "new" / name) for name in ("learning_curve.png", "boundary.png")]


def test_the_spiral_reaches_the_documents_figure(tmp_path):
    assert spiral.main(spiral.Settings(out=str(tmp_path))) <= 0.12


# --- n-grams ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rhyme(tmp_path_factory):
    """A small text."""
    path = tmp_path_factory.mktemp("rhyme") / "rhyme.txt"
    path.write_text("the cat sat on the mat\nthe dog sat on the rug\n" * 40)
    return str(path)


@pytest.mark.parametrize("kind", ["words", "characters", "bpe"])
def test_the_perplexity_of_a_text_falls_with_n(rhyme, kind, tmp_path, capsys):
    if kind == "bpe":
        pytest.importorskip("tokenizers", reason="BPE needs the extra `text`")
    size = {"bpe_size": 270} if kind == "bpe" else {}
    found = ngram.perplexity(ngram.Settings(text=rhyme, kind=kind, n=3, **size), str(tmp_path))
    *printed, picture = capsys.readouterr().out.splitlines()
    assert picture == str(tmp_path / "perplexity.png")
    assert (tmp_path / "perplexity.png").read_bytes().startswith(PNG)
    assert len(printed) == 4
    assert printed[-1].startswith("n = 3   Laplace: validation ")
    assert found["Kneser-Ney"][2] < found["Kneser-Ney"][1] < found["Kneser-Ney"][0]
    assert f"test {found['Kneser-Ney'][2]:8.1f}" in printed[-1]


def test_the_perplexity_of_no_ngrams_is_refused(rhyme, tmp_path):
    with pytest.raises(SystemExit, match="--n must be at least 1, not 0"):
        ngram.perplexity(ngram.Settings(text=rhyme, n=0), str(tmp_path))


def test_an_ngram_model_writes_the_same_text_with_the_same_seed(rhyme, capsys):
    settings = ngram.Settings(text=rhyme, n=3)
    texts = [ngram.generate(settings, "the dog", 12, seed=seed) for seed in (1, 1, 2)]
    assert texts[0] == texts[1] != texts[2]
    assert texts[0].startswith("the dog sat on the ")
    assert capsys.readouterr().out == "".join(f"{text}\n" for text in texts)
    assert ngram.generate(settings, "the unheard", 1, top_k=1).startswith("the <unk> ")
    assert capsys.readouterr().out.startswith("not in the vocabulary, and read as <unk>: unheard\nthe <unk> ")
    ngram.score(["the zebra sat"], settings)
    assert capsys.readouterr().out.startswith("not in the vocabulary, and read as <unk>: zebra\n")
    assert ngram.generate(settings, length=1) == "the"
    assert ngram.generate(ngram.Settings(text=rhyme, kind="characters"), length=0) == ""
    begun = ngram.generate(ngram.Settings(text=rhyme, kind="characters"), length=4, top_k=1)
    assert begun == "the "  # behind the end of a line, and whole


def test_sentences_are_ranked(rhyme, capsys):
    sentences = ["mat the on sat", "the cat sat on the mat"]
    assert ngram.score(sentences, ngram.Settings(text=rhyme, n=3)) == sentences[::-1]
    assert re.match(r"log P +-\d+\.\d\d  perplexity +\d+\.\d  the cat sat on the mat\n", capsys.readouterr().out)
    for wrong in ([], [""]):
        with pytest.raises(SystemExit, match="to score"):
            ngram.score(wrong, ngram.Settings(text=rhyme, kind="characters"))


def test_zipf_leaves_its_picture(rhyme, tmp_path, capsys):
    alphas = ngram.zipf(ngram.Settings(text=rhyme), str(tmp_path / "new"))
    assert list(alphas) == ["unigram", "bigram", "trigram"]
    assert (tmp_path / "new" / "zipf.png").read_bytes().startswith(PNG)
    assert f"α = {alphas['trigram']:.3f}" in capsys.readouterr().out


def test_texts_that_cannot_be_read_end_in_a_line(tmp_path, rhyme):
    (tmp_path / "empty.txt").write_text("")
    for settings, message in [
        ({"text": str(tmp_path / "nowhere.txt")}, "No such file"),
        ({"text": str(tmp_path / "empty.txt")}, r"empty\.txt holds no text"),
        ({"text": rhyme, "n": 0}, "n must be at least 1"),
        ({"data": "ptb", "kind": "characters"}, "--data ptb is not cut into characters here; --text FILE can be"),
        ({"data": "time_machine", "kind": "bpe"}, "--data time_machine is not cut into bpe"),
    ]:
        with pytest.raises(SystemExit, match=message):
            ngram.score(["the cat"], ngram.Settings(**settings))


# --- language models --------------------------------------------------------------------------------------------------

CELLS = ["rnn", "lstm", "gru", "mlp"]


def tiny(rhyme, out, **changes):
    """Settings of a model that learns the rhyme in a second."""
    settings = language_model.Settings(
        text=rhyme, out=str(out), embed_size=8, hidden_size=8, optimizer="adam", lr=0.02, max_norm=5.0, batch_size=4,
        num_steps=6, epochs=2, schedule="cosine", warmup=3,
    )  # fmt: skip
    return dataclasses.replace(settings, **changes)


@pytest.fixture(scope="module")
def models(rhyme, tmp_path_factory):
    """A folder for each cell, with what `train` left in it and printed."""
    found = {}
    for cell in CELLS:
        out = tmp_path_factory.mktemp("models") / cell
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            figure = language_model.train(tiny(rhyme, out, cell=cell, layers=2 if cell == "gru" else 1, epochs=15))
        found[cell] = out, printed.getvalue(), figure
    return found


@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_learns_and_leaves_picture_checkpoint_and_best_weights(models, cell):
    out, printed, figure = models[cell]
    assert {path.name for path in out.iterdir()} == {"learning_curve.png", "checkpoint.safetensors", "best.safetensors"}
    assert (out / "learning_curve.png").read_bytes().startswith(PNG)
    lines = printed.splitlines()
    assert lines[0] == "448 tokens to train on, 56 to validate, 56 to test, a vocabulary of 9"
    assert re.fullmatch(r"epoch 15/15  loss [\d.]+  validation perplexity [\d.]+", lines[15])
    assert lines[16] == f"test perplexity {figure:.2f}"
    assert figure < 4  # of 9 tokens, most are certain


@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_writes_text_in_every_way(models, cell, capsys):
    out = str(models[cell][0])

    def write(**settings):
        text = language_model.generate("the dog", out, **{"length": 8, **settings})
        assert capsys.readouterr().out == f"{text}\n"
        return text

    assert write(seed=1) == write(seed=1)
    assert len({write(seed=seed, temperature=3.0) for seed in range(5)}) > 1
    assert write(greedy=True) == write(top_k=1) == write(beam=1)
    assert write(greedy=True).startswith("the dog sat on the ")
    assert write(top_p=0.5, length=3) == "the dog sat on the"
    stopped = write(beam=4, stop=True, length=20, length_penalty=1.0)
    assert stopped.count("\n") == 1
    assert stopped.endswith("\n")


@pytest.mark.parametrize("kind", ["words", "characters", "bpe"])
def test_each_token_is_printed_as_it_comes_and_joined_to_few_others(kind, capsys):
    if kind == "bpe":
        pytest.importorskip("tokenizers", reason="BPE needs the extra `text`")
    text = "나는 학교에 간다 .\n\nhe goes home 😀 .\n" * 20
    tokenizer = {"words": Words, "characters": Characters}.get(kind, lambda: BPE.train([text], 260))()
    tokens = tokenizer(text)
    vocab = Vocab(tokens)
    joined, join = [], tokenizer.join

    def counted(some):
        joined.append(len(some))
        return join(some)

    tokenizer.join = counted
    ids = vocab.encode(tokens)
    seen = []

    def stream():
        for new in ids[3:]:
            seen.append(capsys.readouterr().out)
            yield np.array([new])

    assert corpora.write(tokenizer, vocab, ids[:3], stream()) == join(tokens)
    last = capsys.readouterr().out
    assert "".join([*seen, last]) == join(tokens) + "\n"
    assert last.strip() in {".", ""}  # all the others were shown before
    assert max(joined) <= 6


def test_a_prompt_may_hold_unknown_words_and_may_be_empty(models, capsys):
    out = str(models["lstm"][0])
    text = language_model.generate("the zebra sat", out, length=2)
    assert text.startswith("the <unk> sat ")
    assert capsys.readouterr().out == f"not in the vocabulary, and read as <unk>: zebra\n{text}\n"
    assert language_model.generate("", out, length=1, greedy=True) == "the"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"greedy": True, "temperature": 0.5}, "--temperature has no effect with --greedy or --beam"),
        ({"beam": 2, "top_k": 3}, "--top-k has no effect with --greedy or --beam"),
        ({"beam": 2, "top_p": 0.3}, "--top-p has no effect with --greedy or --beam"),
        ({"beam": 2, "seed": 1}, "--seed has no effect with --greedy or --beam"),
        ({"beam": 2, "greedy": True}, "--greedy has no effect with --beam"),
        ({"length_penalty": 0.6}, "--length-penalty has no effect without --beam"),
        ({"length": -3}, "length must be at least 0, not -3"),
        ({"length": -3, "beam": 2}, "length must be at least 0, not -3"),
    ],
)
def test_ways_of_writing_that_contradict_each_other_are_refused(models, settings, message):
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        language_model.generate("the dog", str(models["rnn"][0]), **settings)


@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_ranks_sentences(models, cell):
    out = str(models[cell][0])
    sentences = ["mat the on sat cat the", "the cat sat on the mat"]
    assert language_model.score(sentences, out) == sentences[::-1]
    with pytest.raises(SystemExit, match="no sentence to score"):
        language_model.score([], out)


@pytest.mark.parametrize("cell", CELLS)
def test_a_language_model_is_evaluated(models, cell, tmp_path, capsys):
    out, _, figure = models[cell]
    assert language_model.evaluate(str(out)) == pytest.approx(figure, rel=1e-6)
    assert "on 56 tokens, of which 0.0% are <unk>" in capsys.readouterr().out
    (tmp_path / "other.txt").write_text("the zebra sat\n" * 5)
    assert language_model.evaluate(str(out), str(tmp_path / "other.txt")) > figure
    assert "on 20 tokens, of which 25.0% are <unk>" in capsys.readouterr().out


@pytest.mark.parametrize("cell", ["gru", "mlp"])
def test_half_of_the_bytes_give_nearly_the_same_perplexity(models, cell, tmp_path, capsys):
    out = shutil.copytree(models[cell][0], tmp_path / cell)
    assert language_model.evaluate(str(out), half=True) == pytest.approx(models[cell][2], rel=1e-3)
    whole, half = ((out / name).stat().st_size for name in ("best.safetensors", "best.float16.safetensors"))
    assert f"{half:,} bytes" in capsys.readouterr().out
    assert half < 0.8 * whole  # of so small a model, a good part is the names


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("windows", ["sequential", "random"])
def test_a_language_model_is_resumed_as_if_it_had_never_stopped(rhyme, tmp_path, monkeypatch, capsys, cell, windows):
    changes = {"cell": cell, "windows": windows, "dropout": 0.2, "schedule": "plateau", "warmup": 0}
    if windows == "sequential" and cell != "mlp":
        changes |= {"bptt_window": 4, "keep": 0.5}
    whole, part = (tiny(rhyme, tmp_path / name, **changes) for name in ("whole", "part"))
    expected = language_model.train(whole)
    name = "WindowLM" if cell == "mlp" else "RecurrentLM"
    with monkeypatch.context() as patch:
        model = getattr(language_model, name)
        patch.setattr(model, "loss", interrupted(model.loss, at_call=6))
        with pytest.raises(SystemExit) as end:
            language_model.train(part)
    assert end.value.code == 130
    assert "--resume goes on from" in capsys.readouterr().out
    figure = language_model.train(language_model.Settings(out=part.out, resume=True, epochs=2))
    assert figure == expected
    assert outcome(tmp_path / "part") == outcome(tmp_path / "whole")
    assert (tmp_path / "part" / "best.safetensors").read_bytes() == (
        tmp_path / "whole" / "best.safetensors"
    ).read_bytes()


def test_weights_of_an_earlier_run_in_the_folder_are_not_taken_for_those_of_this(rhyme, tmp_path, monkeypatch):
    language_model.train(tiny(rhyme, tmp_path))
    best = (tmp_path / "best.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(language_model.RecurrentLM, "loss", interrupted(language_model.RecurrentLM.loss, at_call=3))
        with pytest.raises(SystemExit):
            language_model.train(tiny(rhyme, tmp_path, seed=1))
    assert (tmp_path / "best.safetensors").read_bytes() == best
    language_model.evaluate(str(tmp_path), half=True)
    weights = language_model.trained(str(tmp_path)).model.state_dict()
    np.testing.assert_equal(weights, Checkpoint.load(tmp_path / "checkpoint.safetensors").weights)


def test_probabilities_of_all_texts_of_two_characters_have_the_sum_one(rhyme, tmp_path, capsys):
    language_model.train(tiny(rhyme, tmp_path, kind="characters", epochs=1))
    run = language_model.trained(str(tmp_path))
    assert run.vocab.tokens[corpora.start_of(run.vocab)] == "\n"
    tokens = [token for token in run.vocab.tokens if token != "<unk>"]
    capsys.readouterr()
    language_model.score(["".join(pair) for pair in itertools.product(tokens, repeat=2)], str(tmp_path))
    found = re.findall(r"^log P +(\S+)", capsys.readouterr().out, re.MULTILINE)
    assert len(found) == len(tokens) ** 2
    total = sum(math.exp(float(log_p)) for log_p in found)
    assert 0.8 < total < 1.01  # without <unk>


@pytest.mark.parametrize("kind", ["characters", "bpe"])
def test_a_language_model_of_other_tokens(rhyme, tmp_path, kind):
    if kind == "bpe":
        pytest.importorskip("tokenizers", reason="BPE needs the extra `text`")
    size = {"bpe_size": 270} if kind == "bpe" else {}
    language_model.train(tiny(rhyme, tmp_path, kind=kind, epochs=1, **size))
    text = language_model.generate("the cat", str(tmp_path), length=9)
    assert text.startswith("the cat")
    if kind == "characters":
        assert len(text) == 16
    run = language_model.trained(str(tmp_path))
    assert run.vocab.tokens[corpora.start_of(run.vocab)] == {"characters": "\n", "bpe": "Ċ"}[kind]
    language_model.score(["the cat", "tac eht"], str(tmp_path))
    with pytest.raises(SystemExit, match="--stop has no effect without <eos>"):
        language_model.generate("the cat", str(tmp_path), stop=True)


def test_without_the_library_of_bpe_the_line_says_how_to_get_it(rhyme, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(SystemExit, match=r'error: BPE needs .* pip install "tinygrad_nlp\[text\]"'):
        language_model.train(tiny(rhyme, tmp_path, kind="bpe"))


def test_the_quick_run_is_quick(rhyme, tmp_path):
    language_model.train(tiny(rhyme, tmp_path, quick=True, tie=True, layers=2, dropout=0.1, epochs=9))
    checkpoint = Checkpoint.load(tmp_path / "checkpoint.safetensors")
    assert checkpoint.extra["settings"]["hidden_size"] == 32
    assert checkpoint.loader["epoch"] == 1


@pytest.mark.parametrize(
    ("changes", "factors"),  # of the rate, at the beginning of each epoch of three steps and at the end
    [
        ({"schedule": "constant"}, [1, 1, 1, 1, 1]),
        ({"schedule": "cosine"}, [1, 0.5 + math.sqrt(0.125), 0.5, 0.5 - math.sqrt(0.125), 0]),
        ({"schedule": "step"}, [1, 1 / 4, 1 / 16, 1 / 64, 1 / 256]),
        ({"schedule": "step", "step_size": 2}, [1, 1, 1 / 4, 1 / 4, 1 / 16]),
        ({"schedule": "step", "warmup": 3}, [1 / 3, 1, 1 / 4, 1 / 16, 1 / 64]),
    ],
)
def test_the_learning_rate_goes_by_its_schedule(rhyme, tmp_path, changes, factors):
    optimizer = SGD(nn.Linear(1, 1).parameters(), lr=0.02)
    settings = tiny(rhyme, tmp_path, **{"warmup": 0, "epochs": 4, **changes})
    (schedule,) = language_model.schedule_of(settings, optimizer, settings.epochs, 3)
    rates = [optimizer.lr]
    for _ in range(12):
        schedule.on_step(None)
        rates.append(optimizer.lr)
    assert rates[::3] == pytest.approx([0.02 * factor for factor in factors])


def test_the_rate_of_a_run_falls_after_every_so_many_epochs(rhyme, tmp_path):
    language_model.train(tiny(rhyme, tmp_path, schedule="step", step_size=2, warmup=0, epochs=5))
    assert Checkpoint.load(tmp_path / "checkpoint.safetensors").optimizer["lr"] == pytest.approx(0.02 / 16)
    with pytest.raises(SystemExit, match="step_size must be at least 1, not 0"):
        language_model.train(tiny(rhyme, tmp_path, schedule="step", step_size=0, warmup=0))


@pytest.mark.parametrize(("cell", "biases"), [("rnn", {"ih"}), ("lstm", {"ih"}), ("gru", {"ih", "hh"})])
def test_a_bias_that_another_one_only_repeats_is_not_trained(cell, biases):
    model = RecurrentLM(cell, 7, 4, 4, layers=2)
    model.loss(np.array([[1, 2, 3]]), np.array([[2, 3, 4]]))[0].backward()
    learns = {name for name, p in model.named_parameters() if name.startswith("rnn.bias") and p.grad is not None}
    assert learns == {f"rnn.bias_{which}_l{layer}" for which in biases for layer in range(2)}


def test_training_on_what_is_no_text_for_it_ends_in_a_line(rhyme, tmp_path):
    for name, content in {"empty.txt": "", "short.txt": "one two three\n", "few.txt": "a b c d e f g h"}.items():
        (tmp_path / name).write_text(content)
    for changes, message in [
        ({"text": str(tmp_path / "empty.txt")}, r"empty\.txt holds no text"),
        ({"text": str(tmp_path / "nowhere.txt")}, "No such file"),
        ({"text": str(tmp_path / "short.txt")}, "has 4 tokens to train on and none to test: give a longer text"),
        ({"num_steps": 448}, "the text has 448 tokens to train on, and a window needs 449: give a longer text"),
        ({"batch_size": 448}, "the text has 448 tokens, but at least 449 are needed"),
        ({"epochs": 0}, "--epochs must be at least 1, not 0"),
        ({"tie": True, "hidden_size": 9}, "tied weights need --embed-size = --hidden-size, not 8 and 9"),
        ({"cell": "mlp", "n": 1}, "--n must be at least 2, not 1"),
        ({"lr": 1e39, "optimizer": "sgd", "schedule": "constant"}, r"at step \d+: .*smaller learning rate"),
    ]:
        with np.errstate(all="ignore"), pytest.raises(SystemExit, match=message) as end:
            language_model.train(tiny(rhyme, tmp_path / "out", **changes))
        assert "\n" not in end.value.code


@pytest.mark.parametrize(
    ("changes", "flag", "where"),
    [
        ({"cell": "mlp", "layers": 2}, "layers", "with --cell mlp, which has one hidden layer"),
        ({"cell": "mlp", "tie": True}, "tie", "with --cell mlp"),
        ({"cell": "mlp", "variational": True, "dropout": 0.5}, "variational", "without a recurrent --cell"),
        ({"variational": True}, "variational", "without a recurrent --cell and --dropout"),
        ({"n": 3}, "n", "without --cell mlp"),
        ({"schedule": "plateau"}, "warmup", "with --schedule plateau"),
        ({"step_size": 2}, "step-size", "without --schedule step"),
        ({"windows": "random", "bptt_window": 3}, "bptt-window", "without a recurrent --cell and --windows sequential"),
        ({"cell": "mlp", "bptt_window": 3}, "bptt-window", "without a recurrent --cell and --windows sequential"),
        ({"keep": 0.5}, "keep", "without --bptt-window"),
        ({"data": "time_machine"}, "data", "with --text"),
        ({"bpe_size": 300}, "bpe-size", "without --kind bpe"),
        ({"text": "", "min_freq": 2}, "min-freq", "without the words or characters of --text"),
        ({"kind": "bpe", "min_freq": 2}, "min-freq", "without the words or characters of --text"),
    ],
)
def test_a_flag_without_effect_is_refused(rhyme, tmp_path, changes, flag, where):
    with pytest.raises(SystemExit, match=f"error: --{flag} has no effect {where}.*: leave it out"):
        language_model.train(tiny(rhyme, tmp_path, **changes))
    assert not list(tmp_path.iterdir())


def test_a_resumed_run_refuses_other_settings_than_its_own(rhyme, tmp_path, few_dates):
    settings = tiny(rhyme, tmp_path, epochs=1)
    language_model.train(settings)
    again = dataclasses.replace(settings, resume=True, epochs=2)  # what was given before may be given again
    with pytest.raises(SystemExit, match="--cell has no effect with --resume, which goes on with 'lstm': leave it out"):
        language_model.train(dataclasses.replace(again, cell="gru"))
    language_model.train(again)
    assert Checkpoint.load(tmp_path / "checkpoint.safetensors").loader["epoch"] == 2
    settings = dataclasses.replace(SMALL, epochs=1, out=str(tmp_path / "dates"))
    dates.train(settings)
    with pytest.raises(SystemExit, match="--seed has no effect with --resume, which goes on with 0"):
        dates.train(dataclasses.replace(settings, resume=True, seed=1))


def test_resuming_with_another_text_is_refused_and_the_checkpoint_stays(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("the cat sat on the mat\n" * 80)
    language_model.train(tiny(str(path), tmp_path / "out"))
    before = (tmp_path / "out" / "checkpoint.safetensors").read_bytes()
    path.write_text("a dog ran on a rug\n" * 80)
    settings = language_model.Settings(out=str(tmp_path / "out"), resume=True, epochs=3)
    with pytest.raises(SystemExit, match="was trained on another text: its vocabulary is not that of this one"):
        language_model.train(settings)
    with pytest.raises(SystemExit, match=r"was trained on another text than .*text\.txt is now"):
        language_model.evaluate(str(tmp_path / "out"))
    assert (tmp_path / "out" / "checkpoint.safetensors").read_bytes() == before


def test_without_a_checkpoint_or_with_that_of_another_example_the_line_says_so(quick, tmp_path):
    for use in (language_model.generate, language_model.evaluate):
        with pytest.raises(SystemExit, match=r"there is no .*checkpoint\.safetensors: run `python -m examples"):
            use(out=str(tmp_path))
        with pytest.raises(SystemExit, match=r"is not a checkpoint of examples\.language_model"):
            use(out=str(quick[0]))


@pytest.mark.parametrize(
    ("script", "commands", "settings"),
    [
        ("examples.language_model", ["train", "generate", "score", "evaluate"], language_model.Settings),
        ("examples.ngram", ["perplexity", "generate", "score", "zipf"], ngram.Settings),
    ],
)
def test_the_command_lines_of_language_models_show_their_settings(script, commands, settings):
    shown, _ = command_line(script, "--help")
    assert all(command in shown for command in commands)
    shown, _ = command_line(script, commands[0], "--help")
    for field in dataclasses.fields(settings):
        assert re.search(rf"--{field.name.replace('_', '-')}[ ,]", shown), field.name
