"""The library's own threads: shared work, shared matrix products, and BLAS held to one thread meanwhile."""

import gc
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nlp as tn
from tinygrad_nlp import threads

TIMEOUT = 30  # seconds: only a deadlock takes that long


@pytest.fixture(autouse=True)
def no_products_yet(monkeypatch):
    monkeypatch.setattr(threads, "lone_products", 0)


@pytest.fixture
def shared(monkeypatch):
    """Every product is worth three threads; gives the list of how many parts each call was cut into."""
    parts = []
    side_by_side = threads.side_by_side

    def counted(function, arguments):
        parts.append(len(arguments))
        return side_by_side(function, arguments)

    monkeypatch.setattr(threads, "_ALONE", 0)
    monkeypatch.setattr(threads, "_EACH", 0)
    monkeypatch.setattr(threads, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(threads, "count", lambda: 3)
    monkeypatch.setattr(threads, "side_by_side", counted)
    return parts


@pytest.fixture
def blas_of_two_threads():
    """Two threads for BLAS, however many there are outside."""
    with threadpoolctl.threadpool_limits(2, "blas"):
        yield


def blas_threads():
    return [library.get_num_threads() for library in threads._blas()]


def normal(*shape, dtype=np.float64):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


# --- slices -----------------------------------------------------------------------------------------------------------


@given(size=st.integers(0, 100), parts=st.integers(1, 9))
def test_slices_cover_everything_once_in_nearly_equal_parts(size, parts):
    slices = threads.slices(size, parts)
    assert len(slices) == parts
    assert [i for part in slices for i in range(size)[part]] == list(range(size))
    lengths = [len(range(size)[part]) for part in slices]
    assert max(lengths) - min(lengths) <= 1


@given(size=st.integers(0, 1000), parts=st.integers(1, 9), ahead=st.floats(0, 0.5))
def test_the_first_slice_can_be_longer_by_a_share_of_all_elements(size, parts, ahead):
    slices = threads.slices(size, parts, ahead)
    assert [i for part in slices for i in range(size)[part]] == list(range(size))
    first, *others = (len(range(size)[part]) for part in slices)
    for length in others:
        assert abs(length + int(size * ahead) - first) <= 1


# --- side by side -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 2, 5, 100])
def test_side_by_side_gives_the_results_in_order(count):
    assert threads.side_by_side(lambda x: x * x, list(range(count))) == [x * x for x in range(count)]


@pytest.mark.parametrize("count", [2, 20])
def test_side_by_side_runs_at_once(count):
    meeting = threading.Barrier(count, timeout=TIMEOUT)
    arrived = threads.side_by_side(lambda _: meeting.wait(), list(range(count)))
    assert sorted(arrived) == list(range(count))


def test_one_argument_needs_no_thread():
    assert threads.side_by_side(lambda _: threading.current_thread(), [0]) == [threading.current_thread()]


def test_the_first_argument_is_done_by_the_calling_thread():
    first, second = threads.side_by_side(lambda _: threading.current_thread(), [0, 1])
    assert first is threading.current_thread()
    assert second is not first


@pytest.mark.parametrize("failing", [0, 1])
def test_an_error_in_any_thread_comes_out_once_all_have_ended(failing):
    ended = []

    def work(number):
        if number == failing:
            raise ArithmeticError(f"in part {number}")
        threading.Event().wait(0.05)
        ended.append(number)

    with pytest.raises(ArithmeticError, match=f"in part {failing}"):
        threads.side_by_side(work, [0, 1])
    assert ended == [1 - failing]


def test_threads_work_again_and_keep_nothing_of_what_they_did():
    class Kept:
        """What a weak reference can point to."""

    class Failed(Exception):
        """This, too."""

    argument, alive = Kept(), []
    threads.side_by_side(lambda _: None, [0, 1])
    before = threading.active_count()
    gc.disable()
    try:
        for failing in (None, 0, 1):

            def work(number, kept=argument, failing=failing):
                if number == failing:
                    raise Failed
                result = Kept()
                alive.append(weakref.ref(result))
                return result, kept

            try:
                threads.side_by_side(work, [0, 1])
            except Failed as error:
                alive.append(weakref.ref(error))
        alive.append(weakref.ref(argument))
        del argument, work
        deadline = time.monotonic() + TIMEOUT
        while any(reference() is not None for reference in alive) and time.monotonic() < deadline:
            time.sleep(0.001)  # a thread may be on its way to its next task
        assert [reference() for reference in alive] == [None] * 7
    finally:
        gc.enable()
    assert threading.active_count() == before


def test_of_the_threads_of_many_users_few_are_kept(monkeypatch):
    monkeypatch.setattr(threads, "_MOST_IDLE", 2)
    monkeypatch.setattr(threads, "_idle", [])
    before = threading.active_count()
    meeting = threading.Barrier(5, timeout=TIMEOUT)
    threads.side_by_side(lambda _: meeting.wait(), range(5))
    deadline = time.monotonic() + TIMEOUT
    while threading.active_count() > before + 2 and time.monotonic() < deadline:
        time.sleep(0.001)  # on their way out
    assert threading.active_count() == before + 2
    assert len(threads._idle) == 2


def test_a_program_may_still_compute_when_it_ends():
    program = """
from tinygrad_nlp import threads

def unfinished():
    try:
        yield
    finally:
        print(threads.side_by_side(lambda x: x + 1, [0, 1]))

generator = unfinished()
next(generator)
print(threads.side_by_side(lambda x: x * x, [2, 3]))
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=TIMEOUT)
    assert (ended.stdout, ended.stderr, ended.returncode) == ("[4, 9]\n[1, 2]\n", "", 0)


def test_within_shared_work_nothing_is_shared_again(shared):
    a, b = normal(6, 5), normal(5, 4)
    meeting = threading.Barrier(2, timeout=TIMEOUT)

    def inner(_):
        return threading.current_thread()

    def outer(_):
        meeting.wait()
        busy = threading.current_thread()
        assert threads.side_by_side(inner, range(4)) == [busy] * 4
        product = threads.matmul(a, b)
        assert threads.side_by_side(inner, range(4)) == [busy] * 4  # still: the first call did not end the state
        return product

    for product in threads.side_by_side(outer, [0, 1]):
        np.testing.assert_array_equal(product, a @ b)
    assert shared == [2, 4, 4, 4, 4]  # no product was cut


def test_the_count_is_one_inside_and_what_blas_was_set_to_outside(blas_of_two_threads):
    assert threads.count() == 2
    assert threads.side_by_side(lambda _: threads.count(), [0, 1]) == [1, 1]
    assert threads.count() == 2


def test_the_count_follows_what_the_user_sets():
    with threadpoolctl.threadpool_limits(1, "blas"):
        assert threads.count() == 1


def test_threads_handle_floating_point_errors_as_the_caller_asked():
    with np.errstate(invalid="raise"):
        for divide in (lambda x: x / x, lambda x: np.sqrt(x - 1)):
            with pytest.raises(FloatingPointError):
                threads.side_by_side(lambda i, divide=divide: i and divide(np.zeros(3)), [0, 1])
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        results = threads.side_by_side(lambda _: np.zeros(1) / np.zeros(1), [0, 1])
    assert np.isnan(results).all()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_process_shares_work_among_threads_of_its_own():
    program = """
import os, time, tinygrad_nlp
from tinygrad_nlp import threads
square = lambda x: x * x
assert threads.side_by_side(square, range(4)) == [0, 1, 4, 9]
time.sleep(0.1)  # until the threads wait for work, which the child would leave to them
child = os.fork()
if not child:
    os._exit(0 if threads.side_by_side(square, [2, 3]) == [4, 9] else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-W", "ignore", "-c", program], check=True, timeout=TIMEOUT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.parametrize("inside", [False, True])
def test_a_process_that_is_forked_while_another_thread_computes_does_not_wait_for_that(inside):
    program = f"""
import contextlib, os, sys, threading, time
import numpy as np
from tinygrad_nlp import threads
libraries = [library.get_num_threads() for library in threads._blas()]

def hold():
    while True:
        with threads.blas_alone():
            pass

threading.Thread(target=hold, daemon=True).start()
for _ in range(10):
    with threads.blas_alone() if {inside} else contextlib.nullcontext():
        child = os.fork()
        if not child:
            inside = threads._holders == {inside}
            with threads.blas_alone():
                held = {{library.get_num_threads() for library in threads._blas()}} == {{1}}
            after = [1] * len(libraries) if {inside} else libraries
            same = [library.get_num_threads() for library in threads._blas()] == after
            os._exit(0 if inside and held and same and threads.count() == max(libraries) else 1)
    end = time.monotonic() + 20
    while not (found := os.waitpid(child, os.WNOHANG))[0]:
        if time.monotonic() > end:
            os.kill(child, 9)
            sys.exit("the child waits")
        time.sleep(0.001)
    assert os.waitstatus_to_exitcode(found[1]) == 0
"""
    environment = {**os.environ, "OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    command = [sys.executable, "-W", "ignore", "-c", program]
    subprocess.run(command, check=True, timeout=TIMEOUT, env=environment)


# --- BLAS's threads ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("fails", [False, True])
def test_blas_has_one_thread_inside_and_as_many_as_before_outside(fails, blas_of_two_threads):
    def work(_):
        if fails:
            raise ArithmeticError
        return blas_threads()

    before = blas_threads()
    assert set(before) == {2}
    if fails:
        with pytest.raises(ArithmeticError):
            threads.side_by_side(work, [0, 1])
    else:
        for inside in threads.side_by_side(work, [0, 1]):
            assert set(inside) == {1}
    assert blas_threads() == before


@pytest.mark.parametrize("fails", [False, True])
def test_of_two_users_at_once_the_last_gives_blas_its_threads_back(fails, blas_of_two_threads):
    both_in, first_out = threading.Barrier(2, timeout=TIMEOUT), threading.Event()
    seen = []

    def user(is_first):
        def work(part):
            if part == 0:
                both_in.wait()
                assert is_first or first_out.wait(TIMEOUT)
                seen.extend(blas_threads())
            elif fails:
                raise ArithmeticError

        try:
            threads.side_by_side(work, [0, 1])
        finally:
            if is_first:
                first_out.set()

    with ThreadPoolExecutor(2) as pool:
        users = [pool.submit(user, is_first) for is_first in (True, False)]
        errors = [user.exception(TIMEOUT) for user in users]
        assert [type(error) for error in errors] == [ArithmeticError if fails else type(None)] * 2
        assert set(seen) == {1}
        assert set(blas_threads()) == {2}


def test_the_user_can_still_set_blas_after_another_thread_has_held_it():
    with threadpoolctl.threadpool_limits(2, "blas"), ThreadPoolExecutor(1) as pool:
        pool.submit(threads.side_by_side, abs, [1, 2]).result()
        with threadpoolctl.threadpool_limits(3, "blas"):
            assert set(blas_threads()) == {3}
        assert set(blas_threads()) == {2}


@pytest.fixture
def blas_threads_of_products(monkeypatch):
    """How many threads BLAS had in each product, of which none is too small to matter."""
    monkeypatch.setattr(threads, "_ALONE", 0)
    found = []
    matmul = np.matmul

    def watched(*args, **kwargs):
        found.append(*set(blas_threads()))
        return matmul(*args, **kwargs)

    monkeypatch.setattr(np, "matmul", watched)
    return found


def test_a_product_that_is_too_small_to_share_holds_blas_to_one_thread(blas_threads_of_products, blas_of_two_threads):
    threads.matmul(normal(3, 4), normal(4, 5))
    assert blas_threads_of_products == [1]
    assert set(blas_threads()) == {2}


def multiply(*shapes):
    np.testing.assert_allclose(threads.matmul(*(np.ones(shape) for shape in shapes)), shapes[0][-1])


def work_at_once():
    threads.side_by_side(lambda _: None, [0, 1])


def hold_blas():
    with threads.blas_alone():
        multiply((3, 4), (4, 5))


def multiply_many_at_once():
    multiply((2, 3, 4), (2, 4, 5))


@pytest.mark.parametrize("something_else", [work_at_once, hold_blas, multiply_many_at_once])
def test_after_many_products_and_nothing_else_blas_multiplies_with_its_own_threads(
    something_else, monkeypatch, blas_threads_of_products, blas_of_two_threads
):
    monkeypatch.setattr(threads, "_MANY_PRODUCTS", 3)
    for expected in ([1, 1, 1, 2, 2], [1, 1, 1, 2]):  # after something else, all begins again
        blas_threads_of_products.clear()
        for _ in expected:
            multiply((3, 4), (4, 5))
        assert blas_threads_of_products == expected
        something_else()
    with threads.blas_alone():  # products inside are not counted
        for _ in range(9):
            multiply((3, 4), (4, 5))
    assert threads.lone_products == 0


def test_a_seed_decides_also_which_threads_multiply(monkeypatch):
    monkeypatch.setattr(threads, "lone_products", threads._MANY_PRODUCTS)
    tn.manual_seed(0)
    assert threads.lone_products == 0


def test_blas_multiplies_with_its_own_threads_into_out(monkeypatch):
    monkeypatch.setattr(threads, "_ALONE", 0)
    monkeypatch.setattr(threads, "lone_products", threads._MANY_PRODUCTS)
    a, b, out = normal(3, 4), normal(4, 5), np.empty((3, 5))
    assert threads.matmul(a, b, out=out) is out
    np.testing.assert_array_equal(out, a @ b)
    with pytest.raises(ValueError, match="matmul"):
        threads.matmul(a, a)


# --- matrix products --------------------------------------------------------------------------------------------------

SHAPES = [
    ((7, 5), (5, 3)),  # more rows than columns: cut by rows
    ((3, 5), (5, 7)),  # cut by columns
    ((7, 5), (5, 1)),
    ((2, 1), (1, 2)),
    ((7, 4, 5), (7, 5, 3)),
    ((7, 4, 5), (5, 3)),  # one b for all
    ((2, 4, 5), (2, 5, 3)),  # fewer than threads
    ((1, 4, 5), (1, 5, 3)),
    ((3, 2, 4, 5), (3, 2, 5, 6)),
    ((3, 2, 4, 5), (5, 6)),
    ((4, 5), (6, 5, 7)),  # one a for all
    ((4, 5), (4, 5, 6)),  # not as many for each thread: cut by columns
    ((7, 5), (4, 5, 6)),  # by rows
    ((4, 5), (3, 2, 5, 6)),
]
NOT_SHARED = [((3, 4, 5), (1, 5, 6)), ((2, 1, 4, 5), (3, 5, 6))]  # broadcast
NOT_SHARED += [((1, 5), (5, 7))]  # left to BLAS
EMPTY = [((0, 5), (5, 3)), ((4, 0), (0, 3)), ((4, 5), (5, 0)), ((0, 4, 5), (0, 5, 3)), ((3, 4, 0), (0, 2))]
VECTORS = [((5,), (5,)), ((5,), (5, 3)), ((4, 5), (5,)), ((2, 4, 5), (5,))]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
@pytest.mark.parametrize(("shape_a", "shape_b"), SHAPES + NOT_SHARED + EMPTY + VECTORS)
@pytest.mark.parametrize("size", ["small", "shared"])
def test_matmul_is_the_product(size, shape_a, shape_b, dtype, request):
    parts = request.getfixturevalue("shared") if size == "shared" else []
    a, b = normal(*shape_a) * 10, normal(*shape_b) * 10
    a, b = a.astype(dtype), b.astype(dtype)
    result = threads.matmul(a, b)
    assert result.dtype == dtype
    assert result.shape == (a @ b).shape
    np.testing.assert_allclose(result, a @ b, rtol=1e-5 if dtype == np.float32 else 1e-13, atol=1e-4)
    if size == "shared":
        assert bool(parts) == ((shape_a, shape_b) in SHAPES)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "shape_out"),
    [
        ((4, 5), (6, 5, 7), (7, 4, 7)),
        ((4, 5), (4, 5, 7), (5, 4, 7)),
        ((9, 5), (4, 5, 7), (4, 10, 7)),
        ((40, 5), (5, 7), (41, 7)),
        ((4, 5), (5, 7), (4, 8)),
        ((6, 4, 5), (6, 5, 7), (7, 4, 7)),
    ],
)
def test_an_array_of_another_shape_is_refused(shared, shape_a, shape_b, shape_out):
    out = np.zeros(shape_out)
    with pytest.raises(ValueError, match=r"mismatch|broadcast"):
        threads.matmul(normal(*shape_a), normal(*shape_b), out=out)
    assert not shared
    assert not out.any()


@pytest.fixture
def pieces(monkeypatch):
    """Products of more than 40 multiplications are made in pieces; gives into how many parts each cut its sums."""
    cuts = []
    in_pieces = threads._in_pieces

    def counted(a, b, out, parts):
        cuts.append(parts)
        return in_pieces(a, b, out, parts)

    monkeypatch.setattr(threads, "_ALONE", 0)
    monkeypatch.setattr(threads, "_UNCOPIED", 40)
    monkeypatch.setattr(threads, "_COLUMNS", 4)
    monkeypatch.setattr(threads, "_has_small_kernels", lambda: True)
    monkeypatch.setattr(threads, "_in_pieces", counted)
    return cuts


PIECES = [  # the shapes of factors, and in how many parts the sums are cut
    ((2, 5), (5, 8), [1]),
    ((2, 5), (5, 7), [1]),  # and a column that is left over
    ((2, 12), (12, 3), [3]),  # less than one piece
    ((2, 12), (12, 9), [3]),
    ((3, 6), (2, 6, 9), [2]),
    ((2, 10), (3, 2, 10, 8), [2]),
    ((2, 5), (5, 4), []),  # small as it is
    ((1, 9), (9, 9), []),  # one row is left to BLAS
    ((33, 4), (4, 4), []),  # many rows
    ((2, 11), (11, 8), []),  # sums of 11 products cannot be cut
    ((2, 1024), (1024, 4), []),  # too many parts
    ((3, 2, 5), (5, 8), []),  # several a
]


@pytest.mark.parametrize(("shape_a", "shape_b", "cut"), PIECES)
def test_products_of_few_rows_are_made_in_pieces(pieces, shape_a, shape_b, cut):
    a, b = normal(*shape_a).astype(np.float32), normal(*shape_b).astype(np.float32)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    for out in (None, np.empty(expected.shape, np.float32), np.empty(expected.shape[::-1], np.float32).T):
        result = threads.matmul(a, b, out=out)
        assert out is None or result is out
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    assert pieces == 3 * cut


def test_within_shared_work_products_are_made_in_pieces_too(pieces):
    a, b = normal(2, 5).astype(np.float32), normal(5, 8).astype(np.float32)
    for product in threads.side_by_side(lambda _: threads.matmul(a, b), [0, 1]):
        np.testing.assert_allclose(product, a @ b, rtol=1e-5, atol=1e-5)
    assert pieces == [1, 1]


def test_pieces_are_for_rows_of_float32_that_do_not_share_their_places_in_the_cache(pieces):
    a, b = normal(2, 5).astype(np.float32), normal(5, 8).astype(np.float32)
    page = np.empty((5, 1024), np.float32)[:, :8]
    page[...] = b
    halves = a.astype(np.float16), b.astype(np.float16)
    for x, y in ((a.astype(np.float64), b), (a, b.astype(np.float64)), halves, (a, b.T.copy().T), (a, page)):
        np.testing.assert_allclose(threads.matmul(x, y), a @ b, rtol=2e-2, atol=2e-2)
    with pytest.raises(ValueError, match="mismatch"):
        threads.side_by_side(lambda _: threads.matmul(a, b[:4]), [0, 1])
    np.testing.assert_allclose(threads.matmul(a, b, out=np.empty((2, 8))), a @ b, rtol=1e-5, atol=1e-5)
    assert not pieces


@pytest.mark.parametrize("blas", ["SkylakeX", "Haswell", None])
def test_pieces_need_kernels_for_small_products(blas, monkeypatch):
    libraries = [SimpleNamespace(filepath="numpy.libs/openblas", architecture=blas)] if blas else []
    libraries.append(SimpleNamespace(filepath="mkl"))
    monkeypatch.setattr(threads, "_blas", lambda: libraries)
    assert threads._has_small_kernels.__wrapped__() == (blas == "SkylakeX")


@pytest.mark.parametrize(("shape_a", "shape_b"), SHAPES + NOT_SHARED + EMPTY)
def test_a_product_is_written_to_out(shared, shape_a, shape_b):
    a, b = normal(*shape_a), normal(*shape_b)
    expected = a @ b
    wide = np.full((*expected.shape[:-1], 2 * expected.shape[-1]), 7.0)
    out = wide[..., ::2]  # not contiguous
    assert threads.matmul(a, b, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    assert (wide[..., 1::2] == 7).all()


@pytest.mark.parametrize("shape_a", [(2, 300), (5, 1000), (16, 2000), (17, 2000)])
@pytest.mark.parametrize("columns", [3, 16, 17, 900])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
def test_few_rows_times_a_transposed_factor(shape_a, columns, dtype):
    rng = np.random.default_rng(0)
    a, w = (rng.standard_normal(shape).astype(dtype) for shape in (shape_a, (columns, shape_a[1])))
    product = threads.matmul(a, w.T)
    assert product.flags.c_contiguous
    assert product.dtype == dtype
    np.testing.assert_allclose(product, np.einsum("ik,jk->ij", a, w, dtype=np.complex128), rtol=0, atol=1e-3)
    out = np.empty_like(product)
    assert threads.matmul(a, w.T, out=out) is out
    np.testing.assert_allclose(out, product, rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="matmul"):
        threads.matmul(a, w[:, 1:].T)


@pytest.mark.parametrize(("shape_a", "shape_b"), SHAPES)
@pytest.mark.parametrize("layout", ["transposed", "gaps", "backwards", "read-only"])
def test_factors_may_lie_in_memory_in_any_way(shared, shape_a, shape_b, layout):
    def lie(x):
        if layout == "transposed":
            return x.swapaxes(-1, -2).copy().swapaxes(-1, -2)
        if layout == "gaps":
            return np.repeat(x, 2, axis=-1)[..., ::2]
        if layout == "backwards":
            return x[..., ::-1]
        x.flags.writeable = False
        return x

    a, b = lie(normal(*shape_a)), lie(normal(*shape_b))
    np.testing.assert_allclose(threads.matmul(a, b), a @ b, rtol=1e-12)
    assert shared


def test_factors_of_two_dtypes_give_the_wider_one(shared):
    assert threads.matmul(normal(4, 5, dtype=np.float32), normal(5, 4)).dtype == np.float64
    assert shared


def test_a_large_product_is_cut_into_as_many_parts_as_are_worth_a_thread(monkeypatch):
    cuts = []

    def one_after_the_other(function, arguments):
        cuts.append(len(arguments))
        return [function(argument) for argument in arguments]

    monkeypatch.setattr(threads, "side_by_side", one_after_the_other)
    monkeypatch.setattr(threads, "count", lambda: 3)
    for rows, parts in [(64, []), (256, [2]), (512, [3])]:  # times 2**16 multiplications; a thread is worth 2**23
        cuts.clear()
        a, b = np.ones((rows, 256), np.float32), np.ones((256, 256), np.float32)
        assert (threads.matmul(a, b) == 256).all()
        assert cuts == parts


@pytest.mark.parametrize(("shape_a", "shape_b"), [((4, 5), (4, 3)), ((2, 4, 5), (3, 5, 6)), ((3, 4, 5), (3, 4, 6))])
@pytest.mark.parametrize("size", ["small", "shared"])
def test_factors_that_do_not_fit_are_refused_and_blas_gets_its_threads_back(
    size, shape_a, shape_b, request, blas_of_two_threads
):
    if size == "shared":
        request.getfixturevalue("shared")
    with pytest.raises(ValueError, match=r"matmul|broadcast"):
        threads.matmul(np.ones(shape_a), np.ones(shape_b))
    assert set(blas_threads()) == {2}


class Foreign:
    """An array of another library, as CuPy's, that knows matrix products itself."""

    ndim = 2

    def __matmul__(self, other):
        return "its own product"

    def __array_ufunc__(self, ufunc, method, *inputs, out=(None,), **kwargs):
        assert ufunc is np.matmul
        return "its own product", out[0]


def test_arrays_of_another_library_multiply_themselves(shared):
    assert threads.matmul(Foreign(), Foreign()) == "its own product"
    assert threads.matmul(Foreign(), np.ones((2, 2))) == "its own product"
    out = Foreign()
    assert threads.matmul(Foreign(), Foreign(), out=out) == ("its own product", out)
    assert not shared


def test_variables_are_multiplied_with_a_graph(shared):
    a, b = (tn.Variable(normal(4, 4), requires_grad=True) for _ in range(2))
    product = threads.matmul(a, b)
    product.sum().backward()
    np.testing.assert_allclose(product.data, a.data @ b.data)
    np.testing.assert_allclose(a.grad, np.ones((4, 4)) @ b.data.T)
