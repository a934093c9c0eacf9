"""The data floor: where files lie, made data, padding, and batches that go on where they stopped."""

import datetime
import doctest
import importlib
import json
import re
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_nlp.data import (
    DataLoader,
    cache_folder,
    fetch,
    find,
    lengths_to_mask,
    load_dates,
    make_dates,
    pad_sequences,
    read_dates,
    spiral,
)
from tinygrad_nlp.data.files import REGISTRY

DATE_FILE = "dlfs2/date.txt"


@pytest.mark.parametrize("name", ["dates", "files", "loader", "padding", "spiral"])
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
