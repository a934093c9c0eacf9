"""The example that fine-tunes a language model, on made reviews and, where they are at hand, on real ones."""

import dataclasses
import json
import re
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("tyro", reason="examples need the extra `examples`")
pytest.importorskip("matplotlib", reason="examples need the extra `examples`")

import tinygrad_nlp as tn
from examples import finetune, language_model
from examples.models.language_model import RecurrentLM
from examples.models.sentiment import TextClassifier
from tinygrad_nlp.data import Corpus, LabelledTexts, find
from tinygrad_nlp.text import Vocab, Words

WORDS = {0: ["dull", "bland", "flat"], 1: ["warm", "funny", "fine"]}
FILLERS = ["the", "film", "is", "and", "a", "story", "of"]


def made(count, seed):
    """Reviews of 3 to 8 words, of which two tell the class."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(2, size=count)
    texts = []
    for label in labels:
        words = [*rng.choice(FILLERS, rng.integers(1, 7)), *rng.choice(WORDS[label], 2)]
        texts.append(" ".join(rng.permutation(words)))
    return LabelledTexts(texts, labels)


def general():
    """A text of other sentences, some of whose words are those of the reviews."""
    tokenizer = Words()
    tokens = tokenizer("a story of the sea\nthe film is fine and dull\n" * 30)
    vocab = Vocab(tokens)
    ids = vocab.encode(tokens)
    return Corpus(tokenizer, vocab, *np.split(ids, [len(ids) - 100, len(ids) - 50]))


PARTS = [made(120, 0), made(30, 1), made(40, 2)]


def settings(out, **changes):
    usual = {"size": 8, "lm_epochs": 1, "labelled": 40, "batch_size": 10, "epochs": 4, "seeds": (0, 1), "min_freq": 1}
    return finetune.Settings(**{**usual, "scratch_lr": 0.02, **changes}, out=str(out))


@pytest.fixture(autouse=True)
def data(monkeypatch):
    monkeypatch.setattr(finetune, "load_sst2", lambda: tuple(PARTS))
    monkeypatch.setattr(finetune, "load_ptb", general)


def results(out):
    return json.loads((out / "results.json").read_text())["runs"]


def test_both_starts_learn_and_leave_picture_figures_and_language_models(tmp_path, capsys):
    means = finetune.main(settings(tmp_path / "new", epochs=12))
    assert {path.name for path in (tmp_path / "new").iterdir()} == {
        "accuracy.png", "results.json", "general", "language_model"
    }  # fmt: skip
    runs = results(tmp_path / "new")
    assert set(runs) == {f"{start} {seed}" for start in ("from scratch", "pre-trained") for seed in (0, 1)}
    assert all(len(run["validation"]) == 12 and max(run["validation"]) > 80 for run in runs.values())
    for start, mean in means.items():
        assert mean == pytest.approx(np.mean([runs[f"{start} {seed}"]["test"] for seed in (0, 1)]))
    printed = capsys.readouterr().out
    scratch, trained = (runs[f"{start} 1"]["test"] for start in ("from scratch", "pre-trained"))
    assert re.search(rf"seed 1 +{scratch:.2f} +{trained:.2f} +{trained - scratch:+.2f}\n", printed)
    gains = [runs[f"pre-trained {seed}"]["test"] - runs[f"from scratch {seed}"]["test"] for seed in (0, 1)]
    assert re.search(rf"mean .* {np.mean(gains):+.2f}\nsd .* {np.std(gains, ddof=1):.2f}\n", printed)
    written = language_model.generate("the film", out=str(tmp_path / "new" / "language_model"), length=5)
    assert written.startswith("the film")


def test_the_labels_of_the_other_parts_are_only_counted(tmp_path, monkeypatch):
    finetune.main(settings(tmp_path / "a", seeds=(3,)))
    parts = [PARTS[0], *(LabelledTexts(part.texts, 1 - part.labels) for part in PARTS[1:])]
    monkeypatch.setattr(finetune, "load_sst2", lambda: tuple(parts))
    finetune.main(settings(tmp_path / "b", seeds=(3,)))
    for name, run in results(tmp_path / "b").items():
        same = results(tmp_path / "a")[name]
        assert [100 - run["test"], *(100 - v for v in run["validation"])] == pytest.approx(
            [same["test"], *same["validation"]]
        )


def interrupted(*_):
    raise KeyboardInterrupt


@pytest.mark.parametrize("stage", [finetune.GENERAL, finetune.LM, "typo"])
def test_a_wrong_or_earlier_model_to_begin_with_costs_nothing_that_is_there(tmp_path, stage):
    finetune.main(settings(tmp_path, seeds=(0,)))
    kept = {path: path.read_bytes() for path in tmp_path.rglob("*.safetensors")}
    again = settings(tmp_path, seeds=(0,), size=finetune.Settings.size, pretrained=str(tmp_path / stage))
    if stage == finetune.GENERAL:
        finetune.main(again)
        kept = {path: content for path, content in kept.items() if path.parent.name == stage}
    else:
        with pytest.raises(SystemExit, match="is where this run leaves its own" if stage == finetune.LM else "typo"):
            finetune.main(again)
    assert kept
    assert all(path.read_bytes() == content for path, content in kept.items())


def test_a_resumed_run_takes_nothing_of_another_that_was_in_the_folder_before(tmp_path, monkeypatch):
    finetune.main(settings(tmp_path / "a", seeds=(0,)))
    others = {"seeds": (0,), "general_epochs": 0}
    with monkeypatch.context() as patch:
        patch.setattr(finetune, "pretrain", interrupted)
        with pytest.raises(SystemExit):
            finetune.main(settings(tmp_path / "a", **others))
    finetune.main(finetune.Settings(out=str(tmp_path / "a"), resume=True, seeds=(0,)))
    finetune.main(settings(tmp_path / "b", **others))
    assert results(tmp_path / "a") == results(tmp_path / "b")


@pytest.mark.parametrize("moment", ["in the second language model", "in the third run"])
def test_a_run_that_is_interrupted_and_resumed_gives_the_same_figures(tmp_path, monkeypatch, moment):
    module, name, call = (language_model, "fit", 2) if "model" in moment else (finetune, "learn", 3)
    function, calls = getattr(module, name), []

    def interrupted(*args, **kwargs):
        calls.append(args)
        if len(calls) == call:
            raise KeyboardInterrupt
        return function(*args, **kwargs)

    monkeypatch.setattr(module, name, interrupted)
    with pytest.raises(SystemExit) as stop:
        finetune.main(settings(tmp_path / "a"))
    assert stop.value.code == 130
    monkeypatch.setattr(module, name, function)
    resumed = finetune.main(finetune.Settings(out=str(tmp_path / "a"), resume=True, seeds=(0, 1)))
    assert resumed == finetune.main(settings(tmp_path / "b"))
    assert results(tmp_path / "a") == results(tmp_path / "b")
    more = finetune.main(finetune.Settings(out=str(tmp_path / "a"), resume=True, seeds=(0, 1, 2)))
    assert len(results(tmp_path / "a")) == 6
    assert more != resumed


def test_flags_without_effect_are_refused(tmp_path):
    for flag in ({"size": 9}, {"general_epochs": 2}):
        name = next(iter(flag)).replace("_", "-")
        with pytest.raises(SystemExit, match=f"error: --{name} has no effect with --pretrained"):
            finetune.main(settings(tmp_path, **{"size": 128, **flag}, pretrained="folder"))
    finetune.main(settings(tmp_path, seeds=(0,)))
    with pytest.raises(SystemExit, match=r"error: --lr has no effect with --resume, which goes on with 0\.03"):
        finetune.main(settings(tmp_path, resume=True, lr=0.1))


# --- the stages -------------------------------------------------------------------------------------------------------


@pytest.fixture
def lm(tmp_path):
    """The language model of the made reviews."""
    return finetune.pretrain(settings(tmp_path / "lm"), PARTS, None)


@pytest.fixture
def classifiers(monkeypatch):
    """Those that fine-tuning makes from here on."""
    made = []

    class Watched(TextClassifier):
        def __init__(self, *args):
            super().__init__(*args)
            made.append(self)

    monkeypatch.setattr(finetune, "TextClassifier", Watched)
    return made


@pytest.mark.parametrize(
    ("epochs", "learned"), [(1, ["head"]), (2, ["rnn", "head"]), (3, ["embed", "rnn", "head"])]
)  # fmt: skip
def test_layers_begin_as_those_of_the_language_model_and_learn_from_the_top(lm, tmp_path, classifiers, epochs, learned):
    parts = [finetune.encode(part, lm.vocab) for part in PARTS]
    finetune.learn(settings(tmp_path, epochs=epochs), "pre-trained", 0, lm, *parts)
    before = lm.model.state_dict()
    changed = {
        name.split(".")[0]
        for name, array in classifiers[0].state_dict().items()
        if name not in before or not np.array_equal(array, before[name])
    }
    assert changed == set(learned)


@pytest.mark.parametrize("start", finetune.STARTS)
def test_a_classifier_has_one_bias_as_the_language_model(lm, tmp_path, classifiers, start):
    parts = [finetune.encode(part, lm.vocab) for part in PARTS]
    finetune.learn(settings(tmp_path), start, 0, lm, *parts)  # four epochs: all layers learn in the end
    assert not classifiers[0].rnn.bias_hh_l0.data.any()
    before = lm.model.rnn.bias_ih_l0.data if start == "pre-trained" else 0
    assert (classifiers[0].rnn.bias_ih_l0.data != before).any()


def test_each_layer_has_a_rate_of_its_own(lm, tmp_path, monkeypatch):
    optimizers = []
    adam = finetune.optim.Adam
    monkeypatch.setattr(
        finetune.optim, "Adam", lambda *args, **kwargs: optimizers.append(adam(*args, **kwargs)) or optimizers[-1]
    )
    parts = [finetune.encode(part, lm.vocab) for part in PARTS]
    own = settings(tmp_path, lr=0.4, decay=2.0, epochs=1)
    monkeypatch.setattr(finetune.Trainer, "fit", lambda *_: None)
    for start in finetune.STARTS:
        with pytest.raises(KeyError, match="accuracy"):  # nothing was trained
            finetune.learn(own, start, 0, lm, *parts)
    assert [group["lr"] for group in optimizers[0].param_groups] == [own.scratch_lr]
    assert [group["lr"] for group in optimizers[1].param_groups] == pytest.approx([0.1, 0.2, 0.4])
    assert [len(group["params"]) for group in optimizers[1].param_groups] == [1, 4, 2]


@pytest.mark.parametrize("tie", [True, False])
def test_words_that_both_vocabularies_know_keep_their_rows(tie):
    old, new = Vocab(["sea", "film", "dull"]), Vocab(["film", "warm", "dull", "bland"])
    models = [RecurrentLM("lstm", len(vocab), 4, 4, tie=tie) for vocab in (old, new)]
    models[0].out.bias.data = np.arange(4, dtype=np.float32)
    trained = language_model.Trained(models[0], language_model.Settings(), Words(), old)
    before = {name: array.copy() for name, array in models[1].state_dict().items()}
    weights = finetune.adapt(trained, models[1], new)
    np.testing.assert_equal(models[1].state_dict(), before)
    models[1].load_state_dict(weights)
    assert weights["out.bias"].tolist() == [1, 0, 2, 0, 3]  # film, warm, dull, bland, <unk>
    for name in {"embed.weight", "out.weight"} & set(weights):
        for word in new.tokens:
            source = models[0].state_dict()[name][old[word]] if word in old else before[name][new[word]]
            np.testing.assert_array_equal(weights[name][new[word]], source)
    np.testing.assert_array_equal(models[1].rnn.weight_hh_l0.data, models[0].rnn.weight_hh_l0.data)


def test_a_trained_model_of_words_takes_the_place_of_the_general_one(tmp_path, monkeypatch):
    monkeypatch.setattr(finetune, "load_ptb", lambda: pytest.fail("nobody needs it"))
    (tmp_path / "text.txt").write_text("a story of the sea\nthe film is fine and dull\n" * 40)
    kind = {"text": str(tmp_path / "text.txt"), "num_steps": 5, "batch_size": 4, "epochs": 1, "hidden_size": 6}
    for name, changes in (
        ("gru", {"cell": "gru", "layers": 2, "embed_size": 7}),
        ("mlp", {"cell": "mlp"}),
        ("characters", {"kind": "characters"}),
    ):
        out = str(tmp_path / name)
        language_model.train(language_model.Settings(**{**kind, **changes}, out=out))
        own = settings(tmp_path / "out", size=128, pretrained=out, epochs=1, seeds=(0,))
        if name == "gru":
            finetune.main(own)
            run = language_model.trained(str(tmp_path / "out" / "language_model"))
            assert (run.settings.cell, run.settings.layers, run.model.embed.weight.shape[1]) == ("gru", 2, 7)
        else:
            with pytest.raises(SystemExit, match="holds no recurrent language model of words"):
                finetune.main(own)
    with pytest.raises(SystemExit, match=r"there is no .*checkpoint\.safetensors"):
        finetune.main(settings(tmp_path / "out", size=128, pretrained=str(tmp_path / "nowhere")))


def test_a_sentence_has_the_same_scores_alone_and_beside_longer_ones():
    tn.manual_seed(0)
    model = TextClassifier("lstm", 9, 5, 4, 2, dropout=0.5)
    model.eval()
    ids, lengths = np.array([[1, 2, 3, 8, 8], [4, 5, 6, 7, 1]]), np.array([3, 5])
    together = model(ids, lengths).data
    np.testing.assert_allclose(model(ids[:1, :3], lengths[:1]).data, together[:1], rtol=1e-5, atol=1e-6)
    hs, _ = model.rnn(model.embed(ids[:1, :3]))
    np.testing.assert_allclose(model.head(hs.mean(axis=1)).data, together[:1], rtol=1e-5, atol=1e-6)
    assert model.train()(ids, lengths).dtype == np.float32
    assert not np.array_equal(model(ids, lengths).data, together)  # dropout


def test_a_text_without_tokens_has_the_scores_of_the_head_alone():
    model = TextClassifier("gru", 9, 5, 4, 2)
    ids, lengths = np.array([[1, 2, 3], [0, 0, 0]]), np.array([3, 0])
    for rows in (slice(None), slice(1, None)):
        scores = model(ids[rows], lengths[rows])
        np.testing.assert_array_equal(scores.data[-1], model.head.bias.data)
        scores.sum().backward()
    assert all(np.isfinite(parameter.grad).all() for parameter in model.rnn.parameters())


# --- the command line -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", [{"epochs": 0}, {"lm_epochs": 0}, {"labelled": 0}, {"seeds": ()}])
def test_a_wrong_setting_ends_in_a_line(wrong, tmp_path):
    with pytest.raises(SystemExit, match=r"error: --.* at least 1"):
        finetune.main(settings(tmp_path, **wrong))


def test_resuming_without_a_run_names_what_is_missing(tmp_path):
    with pytest.raises(SystemExit, match=r"there is no .*results\.json to go on from: run without --resume first"):
        finetune.main(finetune.Settings(out=str(tmp_path), resume=True))


def test_the_command_line_shows_every_setting():
    shown = subprocess.run(
        [sys.executable, "-m", "examples.finetune", "--help"],
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
    ).stdout
    for field in dataclasses.fields(finetune.Settings):
        assert re.search(rf"--{field.name.replace('_', '-')}[ ,]", shown), field.name


def test_the_quick_run_is_quick(tmp_path):
    means = finetune.main(finetune.Settings(out=str(tmp_path), quick=True))
    assert list(means) == ["from scratch", "pre-trained"]
    assert not (tmp_path / "general").exists()


@pytest.mark.skipif(not find("sentiment_sst2/train.tsv"), reason="SST-2 is not at hand; set TINYGRAD_NLP_DATA")
def test_a_quick_run_on_real_sentences(tmp_path, monkeypatch, capsys):
    monkeypatch.undo()
    finetune.main(finetune.Settings(out=str(tmp_path), quick=True))
    assert re.search(r"a vocabulary of 5\d\d\n", capsys.readouterr().out)
