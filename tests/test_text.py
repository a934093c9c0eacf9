"""The text floor: tokens, vocabularies, and n-gram models against counts that one would make by hand."""

import itertools
import json
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_nlp.text import (
    BPE,
    Characters,
    KneserNeyNGram,
    LaplaceNGram,
    NGram,
    Tokenizer,
    Vocab,
    Words,
    ngram_counts,
    zipf_exponent,
)

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


def test_a_vocabulary_is_gone_through_by_tokens_and_asked_by_tokens():
    vocab = Vocab(["a", "b", "a"])
    assert list(vocab) == vocab.tokens == ["a", "b", "<unk>"]
    for wrong in (1, ["a"]):
        with pytest.raises(TypeError, match="a token is a string, not"):
            vocab[wrong]


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


# --- n-grams ----------------------------------------------------------------------------------------------------------


def contexts_of(ids, n, eos, before=()):
    """What is seen from each place: up to n - 1 ids before it, the nearest last, not beyond an eos."""
    whole = ([] if eos is None else [eos]) + list(before) + list(ids)
    skip = len(whole) - len(ids)
    for i in range(skip, len(whole)):
        seen = []
        while len(seen) < min(n - 1, i) and (not seen or eos is None or seen[0] != eos):
            seen.insert(0, whole[i - len(seen) - 1])
        yield tuple(seen), whole[i]


class Laplace:
    """By hand, with dictionaries."""

    def __init__(self, ids, n, size, eos, alpha):
        self.n, self.size, self.eos, self.alpha = n, size, eos, alpha
        self.counts, self.totals = Counter(), Counter()
        for context, word in contexts_of(ids, n, eos):
            for m in range(len(context) + 1):
                self.counts[context[len(context) - m :], word] += 1
                self.totals[context[len(context) - m :]] += 1

    def probability(self, context, word):
        return (self.counts[context, word] + self.alpha) / (self.totals[context] + self.alpha * self.size)


class KneserNey:
    """By hand, from the definition."""

    def __init__(self, ids, n, size, eos):
        self.n, self.size, self.eos = n, size, eos
        seen = set()
        self.counts = Counter()
        for context, word in contexts_of(ids, n, eos):
            self.counts[context, word] += 1
            for m in range(len(context)):
                longer = context[len(context) - m - 1 :]
                if (longer, word) not in seen:
                    seen.add((longer, word))
                    self.counts[longer[1:], word] += 1
        self.discounts = []
        for m in range(n):
            ones, twos = (sum(len(c) == m and a == k for (c, _), a in self.counts.items()) for k in (1, 2))
            self.discounts.append(ones / (ones + 2 * twos) if ones else 0.5)

    def probability(self, context, word):
        lower = self.probability(context[1:], word) if context else 1 / self.size
        followers = {w: a for (c, w), a in self.counts.items() if c == context}
        if not followers:
            return lower
        total, discount = sum(followers.values()), self.discounts[len(context)]
        return (max(followers.get(word, 0) - discount, 0) + discount * len(followers) * lower) / total


SIZE = 5
NGRAM_TEXTS = st.lists(st.integers(0, SIZE - 1), min_size=1, max_size=40)
MODELS = {
    "laplace": (lambda *a: LaplaceNGram(*a[:3], 0.5, a[3]), lambda *a: Laplace(*a, 0.5)),
    "kneser-ney": (KneserNeyNGram, KneserNey),
}


@pytest.mark.parametrize("name", MODELS)
@given(
    text=NGRAM_TEXTS, other=NGRAM_TEXTS, before=st.lists(st.integers(0, 4), max_size=4), n=st.integers(1, 4),
    eos=st.none() | st.integers(0, 4),
)  # fmt: skip
def test_an_ngram_model_is_its_definition(name, text, other, before, n, eos):
    make, by_hand = MODELS[name]
    model, expected = make(np.array(text, np.uint8), n, SIZE, eos), by_hand(text, n, SIZE, eos)
    if name == "kneser-ney":
        np.testing.assert_allclose(model.discounts, expected.discounts)
    p = [expected.probability(context, word) for context, word in contexts_of(other, n, eos, before)]
    np.testing.assert_allclose(np.exp(model.log_probabilities(np.array(other), before)), p, rtol=1e-9)
    assert model.perplexity(np.array(other)) == pytest.approx(np.exp(-model.log_probabilities(other).mean()))
    (context, _), *_ = contexts_of([0], n, eos, before)
    following = model.next_probabilities(before)
    np.testing.assert_allclose(following, [expected.probability(context, w) for w in range(SIZE)], rtol=1e-9)
    assert following.sum() == pytest.approx(1)
    assert following.min() > 0


@pytest.mark.parametrize("make", [LaplaceNGram, KneserNeyNGram])
@pytest.mark.parametrize("n", [1, 2, 4])
@pytest.mark.parametrize("eos", [None, 0])
def test_the_step_of_an_ngram_model_sees_what_was_before(make, n, eos):
    text = np.random.default_rng(0).integers(5, size=200)
    model = make(text, n, 5, eos=eos)
    rows = np.array([[1, 2, 0, 3, 4, 4], [0, 0, 1, 1, 2, 2]])
    state = None
    for t in range(rows.shape[1]):
        scores, state = model.step(rows[:, t], state)
        assert state.shape[1] <= max(n - 1, 1)
        for row, log_p in zip(rows, scores, strict=True):
            np.testing.assert_allclose(np.exp(log_p), model.next_probabilities(row[: t + 1]), rtol=1e-12)


def test_a_huge_vocabulary_and_a_long_context_do_not_overflow():
    ids = np.array([99_999, 5, 99_998, 99_999, 5, 99_998, 99_999, 5])
    model = KneserNeyNGram(ids, 8, 100_000)
    assert model.next_probabilities([99_999, 5]).argmax() == 99_998
    assert model.perplexity(ids) < 20


def test_the_best_ordered_sentence_is_the_most_probable():
    text = Words()("the cat sat on the mat\nthe dog sat on the rug\n" * 5)
    vocab = Vocab(text)
    model = KneserNeyNGram(vocab.encode(text), 3, len(vocab), vocab["<eos>"])
    candidates = ["the cat sat on the rug <eos>", "cat the sat on rug the <eos>"]
    scores = [model.log_probabilities(vocab.encode(candidate.split())).sum() for candidate in candidates]
    assert scores == sorted(scores, reverse=True)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: LaplaceNGram([0, 1], 0, 2), ValueError, "LaplaceNGram: n must be at least 1, not 0"),
        (lambda: LaplaceNGram([0, 1], 2, 2, alpha=0), ValueError, "alpha must be above 0, not 0"),
        (lambda: KneserNeyNGram([], 2, 2), ValueError, "KneserNeyNGram: the text is empty"),
        (lambda: KneserNeyNGram([0, 2], 2, 2), ValueError, "the id 2 is outside the vocabulary of 2"),
        (lambda: KneserNeyNGram([0, 1], 2, 2, eos=9), ValueError, "the id 9 is outside the vocabulary of 2"),
        (lambda: KneserNeyNGram([0, 1], 2, 2).log_probabilities([-1]), ValueError, "the id -1 is outside"),
        (lambda: KneserNeyNGram([0, 1], 2, 2).perplexity([]), ValueError, "an empty text has no perplexity"),
        (lambda: KneserNeyNGram([[0, 1]], 2, 2), ValueError, r"one dimension, not the shape \(1, 2\)"),
        (lambda: KneserNeyNGram([0.5], 2, 2), TypeError, "ids must be integers, not float64"),
        (lambda: NGram([0, 1], 2, 2).next_probabilities(), NotImplementedError, "NGram._mix"),
        (lambda: ngram_counts([0], 0), ValueError, "n must be at least 1, not 0"),
        (lambda: zipf_exponent(np.array([3])), ValueError, "at least two counts are needed, got 1"),
    ],
)
def test_ngrams_refuse(call, error, message):
    with pytest.raises(error, match=message):
        call()


@given(NGRAM_TEXTS, st.integers(1, 6))
def test_ngrams_are_counted_as_by_hand(text, n):
    counts = ngram_counts(np.array(text, np.uint8), n)
    by_hand = Counter(tuple(text[i : i + n]) for i in range(len(text) - n + 1))
    assert counts.tolist() == sorted(by_hand.values(), reverse=True)


@given(st.floats(0.2, 2), st.floats(0, 9))
def test_the_exponent_of_a_power_law_is_found(alpha, c):
    found = zipf_exponent(np.exp(c) * np.arange(1, 50) ** -alpha)
    np.testing.assert_allclose(found, (alpha, c), atol=1e-6)


def test_the_perplexities_of_the_penn_treebank():
    from tinygrad_nlp.data import find, load_ptb

    if find("ptb/ptb.train.txt") is None:
        pytest.skip("the Penn Treebank is not on this machine; set TINYGRAD_NLP_DATA")
    corpus = load_ptb()
    size, eos = len(corpus.vocab), corpus.vocab["<eos>"]
    # Mikolov et al. (2011) have 141 for Kneser-Ney of 5 words, with a toolkit's settings.
    for make, n, expected in [
        (LaplaceNGram, 1, 639.8), (LaplaceNGram, 2, 824.0), (LaplaceNGram, 3, 3307.9),
        (KneserNeyNGram, 2, 186.8), (KneserNeyNGram, 3, 150.6), (KneserNeyNGram, 5, 143.5),
    ]:  # fmt: skip
        assert make(corpus.train, n, size, eos=eos).perplexity(corpus.test) == pytest.approx(expected, abs=0.1)
