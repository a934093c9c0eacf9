"""The data floor: where files lie, made data, padding, and batches that go on where they stopped."""

import datetime
import doctest
import importlib
import itertools
import json
import re
import sys
import tracemalloc
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_nlp.data import (
    DataLoader,
    RandomWindows,
    SequentialWindows,
    cache_folder,
    fetch,
    find,
    lengths_to_mask,
    load_dates,
    load_ptb,
    load_sst2,
    load_text,
    load_time_machine,
    make_dates,
    pad_sequences,
    read_chunks,
    read_dates,
    read_tokens,
    spiral,
    windows,
)
from tinygrad_nlp.data.files import REGISTRY
from tinygrad_nlp.text import BPE, Characters, Vocab, Words

DATE_FILE = "dlfs2/date.txt"


@pytest.mark.parametrize("name", ["corpus", "dates", "files", "loader", "padding", "spiral", "windows"])
def test_docstring_examples(name):
    module = importlib.import_module(f"tinygrad_nlp.data.{name}")
    assert doctest.testmod(module, extraglobs={"np": np}).failed == 0


# --- files -------------------------------------------------------------------------------------------------


@pytest.fixture
def places(tmp_path, monkeypatch):
    """An own folder and a cache folder, both empty."""
    own, cache = tmp_path / "own", tmp_path / "cache"
    own.mkdir()
    monkeypatch.setenv("TINYGRAD_NLP_DATA", str(own))
    monkeypatch.setattr("tinygrad_nlp.data.files.cache_folder", lambda: cache)
    return own, cache


def _put(folder, name, text):
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)
    return folder / name


def test_cache_folder_is_that_of_pooch():
    pooch = pytest.importorskip("pooch")
    assert cache_folder() == pooch.os_cache("tinygrad_nlp")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="XDG_CACHE_HOME is a matter of Linux")
def test_cache_folder_follows_xdg(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tinygrad_nlp"


def test_find_prefers_the_own_folder_to_the_cache(places, monkeypatch):
    own, cache = places
    sha256_of_a = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
    monkeypatch.setitem(REGISTRY, DATE_FILE, ("https://example.org/a", sha256_of_a))
    assert find(DATE_FILE) is None
    cached = _put(cache, DATE_FILE, "a")
    assert find(DATE_FILE) == fetch(DATE_FILE) == cached
    mine = _put(own, DATE_FILE, "a")
    assert find(DATE_FILE) == fetch(DATE_FILE) == mine
    monkeypatch.delenv("TINYGRAD_NLP_DATA")
    assert find(DATE_FILE) == cached


def test_find_warns_of_another_hash_and_goes_on(places):
    path = _put(places[0], DATE_FILE, "a")
    with pytest.warns(UserWarning, match=r"(?s)ca978112ca1b.*62e66a301ce8"):
        assert find(DATE_FILE) == path


def test_find_refuses_unknown_names_and_a_missing_folder(monkeypatch, tmp_path):
    with pytest.raises(ValueError, match=r"no data file is called 'date.txt'; there are .*dlfs2/date.txt"):
        find("date.txt")
    monkeypatch.setenv("TINYGRAD_NLP_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(NotADirectoryError, match=r"TINYGRAD_NLP_DATA is set to .*nowhere"):
        find(DATE_FILE)


def test_fetch_downloads_into_the_cache(places, monkeypatch):
    pooch = pytest.importorskip("pooch")
    calls = []

    def retrieve(url, known_hash, fname, path):
        calls.append((url, known_hash))
        _put(path, fname, "a")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert fetch(DATE_FILE) == places[1] / DATE_FILE
    assert (places[1] / DATE_FILE).is_file()
    assert calls == [(REGISTRY[DATE_FILE][0], f"sha256:{REGISTRY[DATE_FILE][1]}")]


def test_fetch_without_network_says_what_to_do(places, monkeypatch):
    pooch = pytest.importorskip("pooch")

    def retrieve(url, **_):
        raise ConnectionError("no network")

    monkeypatch.setattr(pooch, "retrieve", retrieve)
    with pytest.raises(FileNotFoundError) as error:
        fetch(DATE_FILE)
    message = str(error.value)
    for part in (DATE_FILE, REGISTRY[DATE_FILE][0], "no network", "TINYGRAD_NLP_DATA", str(places[1])):
        assert part in message


def test_fetch_without_pooch_says_how_to_get_it(places, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(FileNotFoundError, match=r'pip install "tinygrad_nlp\[data\]"'):
        fetch(DATE_FILE)


# --- dates -------------------------------------------------------------------------------------------------

WORD_FORMS = {
    "month": r"[A-Za-z]{3,9} \d{1,2}, \d{4}",
    "weekday": r"[A-Za-z]{6,9}, [A-Za-z]{3,9} \d{1,2}, \d{4}",
}


@pytest.fixture(scope="module")
def made():
    return make_dates(20_000, seed=0)


def test_made_dates_have_the_forms_and_cases_of_the_book(made):
    forms, cases = Counter(), Counter()
    for question in made[0]:
        if re.fullmatch(r"[1-9]\d?/[1-9]\d?/\d\d", question):
            forms["digits"] += 1
            continue
        assert any(re.fullmatch(form, question) for form in WORD_FORMS.values()), question
        words = re.findall("[A-Za-z]+", question)
        forms["weekday" if len(words) == 2 else "short" if len(words[0]) == 3 else "long"] += 1
        case = {str.istitle: "Title", str.islower: "lower", str.isupper: "UPPER"}
        cases[next(name for test, name in case.items() if test(question))] += 1
    n = len(made[0])
    # "May" is its own abbreviation: a twelfth of the long forms is counted with the short ones.
    for form, share in {"digits": 3, "weekday": 3, "short": 3.25, "long": 2.75}.items():
        assert forms[form] / n == pytest.approx(share / 12, abs=0.015)
    for case, share in {"Title": 0.5, "lower": 0.25, "UPPER": 0.25}.items():
        assert cases[case] / cases.total() == pytest.approx(share, abs=0.015)


def test_made_answers_are_right(made):
    months = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    weekdays = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"]
    for question, answer in zip(*made, strict=True):
        day = datetime.date.fromisoformat(answer)
        assert 1970 <= day.year <= 2017
        assert len(question) <= 29
        if "/" in question:
            assert question == f"{day.month}/{day.day}/{answer[2:4]}"
            continue
        words = question.lower().replace(",", "").split()
        if len(words) == 4:
            assert words.pop(0) == weekdays[day.weekday()]
        assert words[0].startswith(months[day.month - 1])
        assert words[1:] == [str(day.day), str(day.year)]


def test_made_dates_follow_the_seed():
    assert make_dates(20, seed=1) == make_dates(20, seed=1) != make_dates(20, seed=2)
    with pytest.raises(ValueError, match="at least 1"):
        make_dates(0, seed=1)


# All characters of the book's file: digits, the letters of English months and weekdays, and signs.
BOOK_CHARACTERS = " ,-/0123456789ABCDEFGHIJLMNOPRSTUVWY_abcdefghijlmnoprstuvwy"


def test_load_made_dates():
    data = load_dates("made", n=3000)
    assert data.source == "made"
    assert sorted(data.vocab.tokens) == list(BOOK_CHARACTERS)
    assert [a.shape for a in (*data.train, *data.test)] == [(2700, 29), (2700, 11), (300, 29), (300, 11)]
    assert all(a.dtype == np.int64 and a.flags.c_contiguous for a in (*data.train, *data.test))
    # The split loses no row and keeps question and answer together.
    texts = {
        ("".join(data.vocab.decode(x)).rstrip(), "".join(data.vocab.decode(t)))
        for xs, ts in (data.train, data.test)
        for x, t in zip(xs, ts, strict=True)
    }
    assert texts == {(q, f"_{a}") for q, a in zip(*make_dates(3000, seed=1984), strict=True)}


def test_load_dates_auto_takes_what_is_there(places):
    assert load_dates(n=20).source == "made"
    _put(places[0], DATE_FILE, "2/10/93                      _1993-02-10\n" * 10)
    with pytest.warns(UserWarning, match="sha256"):
        data = load_dates(n=20)
    assert data.source == "book"
    assert data.test[0].shape == (1, 29)
    with pytest.raises(ValueError, match="'auto', 'book' or 'made'"):
        load_dates("boook")


def test_the_dates_of_the_book():
    if find(DATE_FILE) is None:
        pytest.skip(f"{DATE_FILE} is not on this machine; set TINYGRAD_NLP_DATA")
    data = load_dates("book")
    assert data.source == "book"
    assert [a.shape for a in (*data.train, *data.test)] == [(45000, 29), (45000, 11), (5000, 29), (5000, 11)]
    assert len(data.vocab) == 59
    assert sorted(data.vocab.tokens) == list(BOOK_CHARACTERS)
    # The first row of the file is "september 27, 1994": ids in the order of first appearance.
    assert "".join(data.vocab.tokens).startswith("septmbr 27,194_-0")
    # The first test row under the book's shuffle.
    assert "".join(data.vocab.decode(data.test[0][0])).rstrip() == "10/15/94"
    assert "".join(data.vocab.decode(data.test[1][0])) == "_1994-10-15"


@pytest.mark.parametrize(
    "bad",
    [
        "2/10/93  _93-02-10",
        "2/10/93  1993-02-10",
        "_1993-02-10",
        f"{'x' * 30}_1993-02-10",
        "2/10/93_1993-02-10 ",
        "",
    ],
)
def test_read_dates_names_the_bad_row(tmp_path, bad):
    path = _put(tmp_path, "date.txt", f"6/3/73                       _1973-06-03\n{bad}\n")
    with pytest.raises(ValueError, match=r"date\.txt, line 2: expected"):
        read_dates(path)


def test_read_dates_reads_what_is_right(tmp_path):
    path = tmp_path / "date.txt"
    path.write_bytes(b"6/3/73                       _1973-06-03\r\nMay 1, 1970_1970-05-01")
    assert read_dates(path) == (["6/3/73", "May 1, 1970"], ["1973-06-03", "1970-05-01"])
    path.write_bytes(b"")
    with pytest.raises(ValueError, match="no rows"):
        read_dates(path)


def test_read_dates_names_a_file_that_is_not_utf_8(tmp_path):
    path = tmp_path / "date.txt"
    path.write_bytes(b"6/3/73_1973-06-03\n\xff_1973-06-03\n")
    with pytest.raises(ValueError, match=r"date\.txt is no text in UTF-8"):
        read_dates(path)


# --- spiral ------------------------------------------------------------------------------------------------


def test_spiral_has_the_values_of_the_book():
    x, t = spiral()
    assert (x.shape, x.dtype, t.shape, t.dtype) == ((300, 2), np.float32, (300,), np.int64)
    assert np.array_equal(t, np.repeat([0, 1, 2], 100))
    golden = [(0, 0), (-0.00097699, 0.00995216), (-0.00837021, -0.00547171), (-0.59743103, 0.78941508)]
    np.testing.assert_allclose(x[[0, 1, 101, 299]], golden, rtol=0, atol=1e-7)
    assert float((x.astype(np.float64) ** 2).sum()) == pytest.approx(98.505, abs=1e-4)


# --- padding -----------------------------------------------------------------------------------------------


@given(st.lists(st.lists(st.integers(-5, 5), max_size=6), min_size=1, max_size=6), st.integers(0, 3))
def test_padding_keeps_every_sequence(sequences, extra):
    longest = max(map(len, sequences))
    array, mask = pad_sequences(sequences, value=9, length=longest + extra if extra else None)
    assert array.shape == mask.shape == (len(sequences), longest + extra)
    assert (array.dtype, mask.dtype) == (np.int64, np.bool_)
    assert [row[real].tolist() for row, real in zip(array, mask, strict=True)] == sequences
    assert (array[~mask] == 9).all()
    assert np.array_equal(mask, lengths_to_mask([len(s) for s in sequences], longest + extra))


def test_padding_refuses():
    with pytest.raises(ValueError, match="at least one sequence"):
        pad_sequences([], value=0)
    with pytest.raises(ValueError, match="sequence 1 has 3 elements, allowed are 0 to 2"):
        pad_sequences([[1], [1, 2, 3]], value=0, length=2)
    with pytest.raises(ValueError, match="one dimension"):
        pad_sequences([[[1, 2]]], value=0)
    with pytest.raises(TypeError, match="sequence 0 must hold integers, got float64"):
        pad_sequences([[1.5]], value=0)
    with pytest.raises(ValueError, match="sequence 0 has -1 elements"):
        lengths_to_mask([-1, 2])


# --- loader ------------------------------------------------------------------------------------------------


@given(st.integers(1, 30), st.integers(1, 12), st.booleans(), st.booleans())
def test_loader_gives_every_row_once_an_epoch(rows, batch_size, shuffle, drop_last):
    drop_last = drop_last and batch_size <= rows
    x, t = np.arange(2 * rows).reshape(rows, 2), np.arange(rows)
    loader = DataLoader((x, t), batch_size, shuffle=shuffle, drop_last=drop_last)
    for epoch in range(2):
        assert loader.epoch == epoch
        batches = list(loader)
        assert len(batches) == len(loader)
        assert all(len(tb) == batch_size for _, tb in batches[: len(batches) if drop_last else -1])
        assert all(np.array_equal(xb, x[tb]) for xb, tb in batches)
        seen = np.concatenate([tb for _, tb in batches])
        left_out = rows % batch_size if drop_last else 0
        assert len(set(seen.tolist())) == len(seen) == rows - left_out
        if not shuffle:
            assert np.array_equal(seen, t[: len(seen)])


@given(st.integers(1, 20), st.integers(1, 7), st.integers(0, 50), st.booleans(), st.integers(0, 3))
def test_loader_goes_on_exactly_where_it_stopped(rows, batch_size, steps, shuffle, seed):
    def make(seed):
        return DataLoader((np.arange(rows),), batch_size, shuffle=shuffle, seed=seed)

    def run(loader, epochs):
        """Batches, and between epochs a mark."""
        for _ in range(epochs):
            for (batch,) in loader:
                yield batch.tolist()
            yield "end of epoch"

    epochs = 4
    whole = list(run(make(seed), epochs))
    loader = make(seed)
    stopped = run(loader, epochs)
    steps = min(steps, len(whole))
    first = [next(stopped) for _ in range(steps)]
    state = json.loads(json.dumps(loader.state_dict()))

    restored = make(seed + 1)
    next(iter(restored))  # the past of the loader that is restored does not matter
    restored.load_state_dict(state)
    assert restored.state_dict() == state
    rest = list(run(restored, epochs - restored.epoch))
    assert first + rest == whole
    assert restored.epoch == epochs


def test_a_loop_that_was_left_early_is_over():
    left, whole = (DataLoader((np.arange(10),), 3, seed=5) for _ in range(2))
    epochs = [[batch.tolist() for (batch,) in whole] for _ in range(2)]
    for (batch,) in left:
        assert batch.tolist() == epochs[0][0]
        break
    assert [batch.tolist() for (batch,) in left] == epochs[1]
    assert epochs[0] != epochs[1]


def test_loader_leaves_the_global_generator_alone():
    before = np.random.get_state()[1].copy()  # noqa: NPY002 - the state that must not change
    list(DataLoader((np.arange(10),), 3))
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002


def test_loader_refuses():
    examples = [(1, 2), (3, 4), (5, 6)]
    with pytest.raises(TypeError, match=r"one for each kind of data, .*: write (.*)$") as refused:
        DataLoader(examples, 2)
    advice = str(refused.value).partition("write ")[2]
    (batch,) = DataLoader(eval(advice, {"examples": examples}), 3, shuffle=False)
    np.testing.assert_array_equal(batch, [[1, 3, 5], [2, 4, 6]])
    x = np.arange(4)
    with pytest.raises(TypeError, match="tuple of arrays"):
        DataLoader(x, 2)
    with pytest.raises(ValueError, match=r"same length, got the lengths \[4, 3\]"):
        DataLoader((x, x[:3]), 2)
    for empty in ((), (x[:0],)):
        with pytest.raises(ValueError, match="no data"):
            DataLoader(empty, 2)
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        DataLoader((x,), 0)
    with pytest.raises(ValueError, match="do not make a single batch"):
        DataLoader((x,), 5, drop_last=True)
    state = DataLoader((x,), 2).state_dict()
    with pytest.raises(ValueError, match="rows = 4, this loader has rows = 3"):
        DataLoader((x[:3],), 2).load_state_dict(state)
    with pytest.raises(ValueError, match="shuffle = True, this loader has shuffle = False"):
        DataLoader((x,), 2, shuffle=False).load_state_dict(state)


# --- windows -----------------------------------------------------------------------------------------------


@given(st.integers(2, 40), st.integers(1, 12), st.sampled_from([np.uint8, np.uint16, np.int64]))
def test_windows_are_all_there_are_and_take_no_memory(length, steps, dtype):
    steps = min(steps, length - 1)
    ids = np.arange(length, dtype=dtype)
    x, y = windows(ids, steps)
    assert x.shape == y.shape == (length - steps, steps)
    assert x.dtype == dtype
    for i, (x_row, y_row) in enumerate(zip(x, y, strict=True)):
        assert np.array_equal(x_row, ids[i : i + steps])
        assert np.array_equal(y_row, ids[i + 1 : i + 1 + steps])
    assert np.shares_memory(x, ids)
    assert not x.flags.writeable


@given(st.integers(2, 80), st.integers(1, 10), st.integers(1, 5), st.integers(0, 5))
def test_random_windows_are_the_text_in_another_order(length, steps, batch_size, seed):
    steps = min(steps, length - 1)
    ids = np.arange(length, dtype=np.uint8)
    loader = RandomWindows(ids, batch_size, steps, seed)
    starts = set()
    for _ in range(3):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert all(len(x) == batch_size for x, _ in batches[:-1])
        assert all(x.dtype == y.dtype == np.int64 for x, y in batches)
        x, y = (np.concatenate(arrays) for arrays in zip(*batches, strict=True))
        assert np.array_equal(y, x + 1)  # the ids count the places
        x = x[x[:, 0].argsort()].ravel()
        assert np.array_equal(x, np.arange(x[0], x[0] + len(x)))  # without a gap, and no token twice
        assert length - 1 - len(x) < 2 * steps
        starts.add(int(x[0]))
    if length > 4 * steps and seed == 0 and steps > 5:
        assert len(starts) > 1


@given(st.integers(1, 60), st.integers(1, 9), st.integers(1, 7))
def test_sequential_windows_use_every_token_in_order_once(targets, steps, batch_size):
    batch_size = min(batch_size, targets)
    ids = np.arange(targets + 1, dtype=np.uint8)
    loader = SequentialWindows(ids, batch_size, steps)
    for _ in range(2):
        batches = list(loader)
        assert len(batches) == len(loader)
        assert all(x.shape == y.shape == (batch_size, steps) for x, y in batches[:-1])
        assert all(x.dtype == y.dtype == np.int64 for x, y in batches)
        x, y = (np.concatenate(arrays, axis=1) for arrays in zip(*batches, strict=True))
        counted = y != -100
        assert np.array_equal(y[counted], ids[1:])  # row by row, in order, every target once
        assert np.array_equal(y[counted], x[counted] + 1)
        assert counted[:, :-1].all()  # only in the last column some are missing
        assert (np.diff(x, axis=1)[counted[:, 1:]] == 1).all()  # a row goes on where it was


@given(st.booleans(), st.integers(0, 12), st.integers(0, 3))
def test_windows_go_on_exactly_where_they_stopped(sequential, steps, seed):
    ids = np.random.default_rng(0).integers(9, size=60)

    def make(seed):
        return SequentialWindows(ids, 3, 4) if sequential else RandomWindows(ids, 3, 4, seed)

    def run(loader):
        while loader.epoch < 3:
            for x, y in loader:
                yield x.tolist(), y.tolist()

    whole = list(run(make(seed)))
    loader = make(seed)
    stopped = run(loader)
    first = [next(stopped) for _ in range(steps)]
    restored = make(seed + 1)
    restored.load_state_dict(json.loads(json.dumps(loader.state_dict())))
    assert first + list(run(restored)) == whole


def test_windows_refuse_what_is_no_text_or_too_short():
    ids = np.arange(10)
    for make in (
        lambda ids, n: windows(ids, n),
        lambda ids, n: RandomWindows(ids, 2, n),
        lambda ids, n: SequentialWindows(ids, 2, n),
    ):
        with pytest.raises(ValueError, match=r"one dimension, got the shape \(5, 2\)"):
            make(ids.reshape(5, 2), 2)
        with pytest.raises(TypeError, match="integers, got float64"):
            make(ids / 2, 2)
        with pytest.raises(ValueError, match="num_steps must be at least 1, got 0"):
            make(ids, 0)
        for few in (0, 2):
            with pytest.raises(ValueError, match=f"the text has {few} tokens, but at least 3 are needed: give a"):
                make(ids[:few], 2)
    for loader in (RandomWindows, SequentialWindows):
        with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
            loader(ids, 0, 2)


# --- texts -------------------------------------------------------------------------------------------------

TEXTS = st.text(alphabet="ab한\n \t", max_size=60)


@given(TEXTS, st.integers(1, 20))
def test_chunks_make_the_whole_text_and_part_no_word(tmp_path_factory, text, size):
    path = tmp_path_factory.mktemp("chunks") / "text.txt"
    path.write_bytes(text.encode())
    chunks = list(read_chunks(path, size))
    assert "".join(chunks) == text
    assert all(chunks)
    for chunk, after in itertools.pairwise(chunks):
        assert chunk[-1].isspace() or after[0].isspace() or len(chunk) >= size
    if size == 20:
        assert list(read_tokens(path, Words())) == Words()(text)


def test_chunks_end_where_lines_or_words_end(tmp_path):
    path = _put(tmp_path, "text.txt", "one two\nthree four\nfive\tsix sev")
    assert list(read_chunks(path, 12)) == ["one two\n", "three four\n", "five\tsix ", "sev"]


def test_a_text_may_have_line_ends_of_windows_and_a_byte_order_mark(tmp_path):
    path = tmp_path / "text.txt"
    path.write_bytes(b"\xef\xbb\xbfa b\r\nc\r\n")
    assert list(read_tokens(path, Characters())) == list("a b\nc\n")


def test_what_is_no_text_is_refused_by_name(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\xff")
    (tmp_path / "empty.txt").write_bytes(b"")
    (tmp_path / "blank.txt").write_bytes(b" \t ")
    with pytest.raises(ValueError, match=r"picture\.png is no text in UTF-8"):
        list(read_chunks(tmp_path / "picture.png"))
    for name in ("empty.txt", "blank.txt"):
        with pytest.raises(ValueError, match=f"{name} holds no text"):
            load_text(tmp_path / name, Words())
    with pytest.raises(FileNotFoundError):
        load_text(tmp_path / "nowhere.txt", Words())
    for share in (-0.1, 0.5, float("nan")):
        with pytest.raises(ValueError, match=r"held_out must lie in \[0, 0\.5\)"):
            load_text(_put(tmp_path, "a.txt", "a b c"), Words(), held_out=share)


def test_the_vocabulary_of_a_text_is_that_of_its_training_part(tmp_path):
    path = _put(tmp_path, "text.txt", "a b a b a b a c d e")
    corpus = load_text(path, Words(), min_freq=2, held_out=0.1)
    assert corpus.vocab.tokens == ["a", "b", "<unk>"]
    assert [part.tolist() for part in (corpus.train, corpus.valid, corpus.test)] == [[0, 1, 0, 1, 0, 1, 0, 2], [2], [2]]
    assert corpus.train.dtype == np.uint8
    whole = load_text(path, Words(), held_out=0)
    assert (len(whole.train), len(whole.valid), len(whole.test), len(whole.vocab)) == (10, 0, 0, 6)


def test_a_text_in_pieces_of_words_has_no_unknown_token(tmp_path):
    pytest.importorskip("tokenizers", reason="BPE needs the extra `text`")
    text = "the lower the lowest\n" * 30 + "뷁\n" * 9
    bpe = BPE.train([text[:100]], 270)
    corpus = load_text(_put(tmp_path, "text.txt", text), bpe)
    assert corpus.vocab.unk is None
    assert corpus.vocab.tokens == bpe.tokens
    ids = np.concatenate((corpus.train, corpus.valid, corpus.test))
    assert bpe.join(corpus.vocab.decode(ids)) == text


def test_a_text_is_cut_into_pieces_of_words_once(tmp_path, monkeypatch):
    pytest.importorskip("tokenizers", reason="BPE needs the extra `text`")
    text = "the lower the lowest\n" * 30
    bpe, cut = BPE.train([text], 270), []
    monkeypatch.setattr(BPE, "__call__", lambda self, piece: cut.append(piece) or self._tokenizer.encode(piece).tokens)
    load_text(_put(tmp_path, "text.txt", text), bpe)
    assert "".join(cut) == text
    with pytest.raises(ValueError, match=r"empty\.txt holds no text"):
        load_text(_put(tmp_path, "empty.txt", ""), bpe)


def test_a_long_text_is_never_in_memory_as_a_list(tmp_path):
    path = tmp_path / "long.txt"
    line = "the quick brown fox jumps over the lazy dog, and so on\n"
    path.write_text(line * 40_000)  # 2.2 MB
    tracemalloc.start()
    try:
        corpus = load_text(path, Characters())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    size = path.stat().st_size
    assert sum(part.nbytes for part in (corpus.train, corpus.valid, corpus.test)) == size
    assert peak < 2 * size + 3_000_000  # a list of ids has 8 bytes for each; what is above size is growth, and a piece


def test_reading_a_long_text_in_order_takes_the_memory_of_a_batch():
    ids = np.zeros(1_000_000, np.uint8)
    tracemalloc.start()
    try:
        loader = SequentialWindows(ids, 1, 35)
        assert sum(1 for _ in itertools.islice(loader, 3)) == 3
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 50_000  # a number for each token would be 8 MB


def real(name):
    if find(name) is None:
        pytest.skip(f"{name} is not on this machine; set TINYGRAD_NLP_DATA")


def test_the_penn_treebank_has_the_counts_and_ids_of_the_book():
    real("ptb/ptb.train.txt")
    corpus = load_ptb()
    assert [len(part) for part in (corpus.train, corpus.valid, corpus.test)] == [929_589, 73_760, 82_430]
    assert len(corpus.vocab) == 10_000
    assert corpus.train.dtype == corpus.test.dtype == np.uint16
    assert [corpus.vocab[word] for word in ("car", "happy", "lexus")] == [3856, 4428, 7426]
    assert corpus.train[:24].tolist() == list(range(24))
    assert corpus.vocab["<eos>"] == 24
    assert (corpus.train == 24).sum() == 42_068
    assert [len(np.unique(part)) for part in (corpus.valid, corpus.test)] == [6_022, 6_049]
    assert len(Vocab(read_tokens(find("ptb/ptb.train.txt"), Words(eos=None)), min_freq=10)) == 6_719


def test_the_time_machine_has_the_counts_of_the_document():
    real("timemachine/timemachine.txt")
    corpus = load_time_machine(held_out=0)
    assert (len(corpus.train), len(corpus.vocab)) == (173_428, 28)
    assert "".join(corpus.vocab.decode(corpus.train[:24])) == "the time machine by h g "
    words = load_time_machine(Words())
    assert len(words.vocab) == 4_580
    assert len(words.train) + len(words.valid) + len(words.test) == 32_775
    assert len(words.valid) == len(words.test) == 3_277
    most = np.argsort(-words.vocab.counts)[:5]
    assert words.vocab.decode(most) == ["the", "i", "and", "of", "a"]
    assert words.vocab.counts[most].tolist() == [2261, 1267, 1245, 1155, 816]
    with pytest.raises(ValueError, match="held_out"):
        load_time_machine(held_out=0.7)


def test_sst2_has_the_counts_of_its_classes():
    real("sentiment_sst2/train.tsv")
    parts = load_sst2()
    assert [np.bincount(part.labels).tolist() for part in parts] == [[3310, 3610], [428, 444], [912, 909]]
    assert [len(part.texts) for part in parts] == [6_920, 872, 1_821]
    assert parts[2].texts[0] == "no movement , no yuks , not much of anything"
    assert parts[2].labels[0] == 0
    assert all(part.labels.dtype == np.int64 for part in parts)


@pytest.mark.parametrize("row", ["no label", "a film\t2", "\t1", " \t0", "a film\t", ""])
@pytest.mark.filterwarnings("ignore:.*is not the file that")
def test_a_row_of_sst2_of_another_form_is_named(places, row):
    for part in ("train", "dev", "test"):
        rows = ["a fine film\t1", row if part == "test" else "so so\t0", ""]
        path = _put(places[0], f"sentiment_sst2/{part}.tsv", "\n".join(rows))
    with pytest.raises(ValueError, match=f"{re.escape(str(path))}, line 2: expected a sentence, a tab and 0 or 1, got"):
        load_sst2()


def test_texts_that_are_not_here_are_named(places, monkeypatch):
    monkeypatch.setitem(sys.modules, "pooch", None)
    for load, name in (
        (load_ptb, "ptb/ptb.train.txt"),
        (load_sst2, "sentiment_sst2/train.tsv"),
        (load_time_machine, "timemachine/timemachine.txt"),
    ):
        with pytest.raises(FileNotFoundError, match=f"{name} is not on this machine"):
            load()
