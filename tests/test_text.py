"""The text floor: tokens and vocabularies."""

import itertools
import json
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_nlp.text import BPE, Characters, Tokenizer, Vocab, Words

TOKENS = st.lists(st.sampled_from(["a", "b", "한", "<unk>", "<pad>", " ", "\n", ""]))


# --- tokens -----------------------------------------------------------------------------------------------------------


@given(st.text())
def test_characters_make_the_text_again(text):
    assert Characters().join(Characters()(text)) == text


@given(st.text(alphabet="ab한 \n\t"))
def test_words_make_the_text_again_with_single_spaces(text):
    words = Words()
    lines = [" ".join(line.split()) for line in text.split("\n")]
    assert words.join(words(text)) == "\n".join(lines)
    assert words(text).count("<eos>") == text.count("\n")
    assert Words(eos=None)(text) == text.split()
    assert Words(eos=None).join(text.split()) == " ".join(text.split())


@pytest.fixture(scope="module")
def bpe():
    pytest.importorskip("tokenizers", reason="BPE needs the extra `text`")
    return BPE.train(["the lower the lowest\nthe newest 가장 낮은\n"] * 20, vocab_size=290)


@given(text=st.text())
def test_bpe_makes_any_text_again(bpe, text):
    tokens = bpe(text)
    assert bpe.join(tokens) == text
    assert set(tokens) <= set(bpe.tokens)


def test_bpe_finds_the_pieces_of_its_texts(bpe):
    assert 256 < len(bpe.tokens) == len(set(bpe.tokens)) <= 290
    assert len(bpe("the the the")) == 3
    assert len(bpe("xyz")) == 3
    assert "\ufffd" in bpe.join(bpe("가")[:1] if len(bpe("가")) > 1 else bpe("뷁")[:1])


def test_bpe_refuses_a_vocabulary_without_the_bytes_and_a_model_that_is_none(bpe):
    with pytest.raises(ValueError, match="vocab_size must be at least 256"):
        BPE.train(["a"], vocab_size=255)
    with pytest.raises(ValueError, match="no model of a BPE"):
        BPE("{}")


def test_bpe_without_its_library_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "tokenizers", None)
    for make in (lambda: BPE.train(["a"], 300), lambda: BPE("")):
        with pytest.raises(ImportError, match=r'pip install "tinygrad_nlp\[text\]"'):
            make()


@pytest.mark.parametrize("tokenizer", [Characters(), Words(), Words(eos=None), Words(eos="</s>"), "bpe"])
def test_a_tokenizer_is_saved_and_made_again(tokenizer, request):
    tokenizer = request.getfixturevalue("bpe") if tokenizer == "bpe" else tokenizer
    again = Tokenizer.from_state_dict(json.loads(json.dumps(tokenizer.state_dict())))
    text = "the lowest\nnew  뷁 tree\n"
    assert type(again) is type(tokenizer)
    assert again(text) == tokenizer(text)
    assert again.join(again(text)) == tokenizer.join(tokenizer(text))


def test_the_state_of_no_tokenizer_is_refused():
    for state, message in [
        ({"kind": "syllables"}, "no tokenizer is called 'syllables'; there are bpe, characters, words"),
        ({}, "no tokenizer is called None"),
        ({"kind": "bpe"}, r"tokenizer \(bpe\) is not whole"),
        ({"kind": "words", "end": 1}, r"tokenizer \(words\) is not whole"),
    ]:
        with pytest.raises(ValueError, match=message):
            Tokenizer.from_state_dict(state)


# --- vocabulary -------------------------------------------------------------------------------------------------------


@given(TOKENS, st.integers(0, 4), st.lists(st.sampled_from(["<pad>", "<s>", "a"]), unique=True))
def test_a_vocabulary_knows_the_reserved_and_the_frequent_tokens_in_the_order_of_appearance(tokens, min_freq, reserved):
    vocab = Vocab(iter(tokens), min_freq, reserved)
    frequency = Counter(tokens)
    frequent = [t for t in dict.fromkeys(tokens) if frequency[t] >= min_freq or t == "<unk>"]
    expected = list(dict.fromkeys([*reserved, *frequent, "<unk>"]))
    assert vocab.tokens == expected
    assert len(vocab) == len(expected)
    assert vocab.unk == expected.index("<unk>")
    ids = vocab.encode(tokens)
    assert ids.dtype == np.int64
    assert vocab.decode(ids) == [t if t in expected else "<unk>" for t in tokens]
    assert np.array_equal(vocab.counts, np.bincount(ids, minlength=len(vocab)))  # also that of <unk>
    assert all((t in vocab) == (t in expected) for t in ["a", "z", 3])


@given(TOKENS)
def test_a_vocabulary_without_unk_keeps_all_tokens(tokens):
    vocab = Vocab(tokens, unk=None)
    assert vocab.unk is None
    assert vocab.decode(vocab.encode(tokens)) == tokens
    assert vocab.encode(vocab.tokens).tolist() == list(range(len(vocab)))


@given(TOKENS, st.sampled_from(["<unk>", None]))
def test_a_vocabulary_is_saved_and_made_again(tmp_path_factory, tokens, unk):
    vocab = Vocab([*tokens, "\ud800"], unk=unk)
    path = tmp_path_factory.mktemp("vocab") / "vocab.json"
    vocab.save(path)
    for again in (Vocab.load(path), Vocab.from_state_dict(json.loads(json.dumps(vocab.state_dict())))):
        assert again == vocab
        assert np.array_equal(again.counts, vocab.counts)
        assert np.array_equal(again.encode(tokens), vocab.encode(tokens))


def test_vocabularies_are_equal_where_tokens_ids_and_unk_are():
    vocab = Vocab("abc")
    assert vocab == Vocab("abcabc")
    assert vocab != Vocab("acb")
    assert vocab != Vocab(["a", "b", "c", "<unk>"], unk=None)
    assert vocab != vocab.tokens


def test_a_broken_vocabulary_is_refused_by_name(tmp_path):
    good = Vocab("ab").state_dict()
    for name, content in {
        "cut": json.dumps(good)[:-1],
        "twice": json.dumps(good | {"tokens": ["a", "a", "<unk>"]}),
        "counts": json.dumps(good | {"counts": [1]}),
        "unk": json.dumps(good | {"unk": "?"}),
        "numbers": json.dumps(good | {"tokens": [1, 2, "<unk>"]}),
        "part": json.dumps({"tokens": []}),
        "list": "[]",
        "bytes": "\x00\x01",
    }.items():
        (tmp_path / name).write_text(content, encoding="latin-1")
        with pytest.raises(ValueError, match=f"{name} is no whole file of a vocabulary"):
            Vocab.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Vocab.load(tmp_path / "nowhere")


def test_a_vocabulary_names_what_it_does_not_know():
    vocab = Vocab("cab", unk=None)
    with pytest.raises(ValueError, match=r"'x' at position 2 is not in the vocabulary; its 3 tokens are 'abc'"):
        vocab.encode("abxax")
    with pytest.raises(ValueError, match=r"'x' is not in the vocabulary"):
        vocab.encode(iter("abxax"))
    with pytest.raises(ValueError, match=r"'x' .* its 2 tokens are 'to', 'be'$"):
        Vocab(["to", "be"], unk=None)["x"]
    with pytest.raises(ValueError, match=r"…$"):
        Vocab([f"word{i}" for i in range(1000)], unk=None)["x"]
    for i in (3, -1):
        with pytest.raises(ValueError, match=f"the id {i} is not in the vocabulary, whose ids are 0 to 2"):
            vocab.decode([0, i])


def test_a_vocabulary_refuses_what_are_no_tokens():
    for tokens in ([["a", "b"], ["c"]], [1, 2]):
        with pytest.raises(TypeError, match=r"must be a (stream of )?string"):
            Vocab(tokens)
    with pytest.raises(ValueError, match="name an unk"):
        Vocab("aab", min_freq=2, unk=None)


def test_an_empty_vocabulary_knows_only_unk():
    vocab = Vocab()
    assert (vocab.tokens, len(vocab), vocab["a"], vocab.encode([]).shape) == (["<unk>"], 1, 0, (0,))
    assert len(Vocab(unk=None)) == 0
    assert vocab.decode([]) == []


@pytest.mark.parametrize(
    ("size", "dtype"), [(1, np.uint8), (256, np.uint8), (257, np.uint16), (2**16, np.uint16), (2**16 + 1, np.uint32)]
)
def test_ids_are_stored_as_narrow_as_they_can_be(size, dtype):
    vocab = Vocab(map(str, range(size)), unk=None)
    assert vocab.dtype == dtype
    ids = vocab.encode(vocab.tokens, vocab.dtype)
    assert ids.dtype == dtype
    assert ids[-1] == size - 1


def test_a_stream_of_tokens_is_not_kept():
    def stream():
        for i in itertools.count():
            if i == 1_000_000:
                return
            yield "ab"[i % 2]

    vocab = Vocab(stream())
    assert vocab.counts.tolist() == [500_000, 500_000, 0]
    assert vocab.encode(stream(), vocab.dtype).nbytes == 1_000_000
