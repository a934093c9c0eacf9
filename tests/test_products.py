"""Matrix products: shared among threads, left to BLAS's threads, or made in pieces."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import tinygrad_nlp as tn
from tinygrad_nlp import products, threads


@pytest.fixture(autouse=True)
def no_products_yet(monkeypatch):
    monkeypatch.setattr(threads, "lone_products", 0)


@pytest.fixture
def shared(monkeypatch):
    """Every product is worth three threads; gives the list of how many parts each call was cut into."""
    parts = []

    def counted(function, arguments):
        parts.append(len(arguments))
        return threads.side_by_side(function, arguments)

    monkeypatch.setattr(products, "_ALONE", 0)
    monkeypatch.setattr(products, "_EACH", 0)
    monkeypatch.setattr(products, "_WORTH_A_THREAD", 1)
    monkeypatch.setattr(products, "count", lambda: 3)
    monkeypatch.setattr(products, "side_by_side", counted)
    return parts


def normal(*shape, dtype=np.float64):
    return np.random.default_rng(0).standard_normal(shape).astype(dtype)


# --- BLAS's threads ---------------------------------------------------------------------------------------------------


@pytest.fixture
def blas_threads_of_products(monkeypatch, blas_threads):
    """How many threads BLAS had in each product, of which none is too small to matter."""
    monkeypatch.setattr(products, "_ALONE", 0)
    found = []
    matmul = np.matmul

    def watched(*args, **kwargs):
        found.append(*set(blas_threads()))
        return matmul(*args, **kwargs)

    monkeypatch.setattr(np, "matmul", watched)
    return found


def test_a_product_that_is_too_small_to_share_holds_blas_to_one_thread(
    blas_threads_of_products, blas_of_two_threads, blas_threads
):
    products.matmul(normal(3, 4), normal(4, 5))
    assert blas_threads_of_products == [1]
    assert set(blas_threads()) == {2}


def multiply(*shapes):
    np.testing.assert_allclose(products.matmul(*(np.ones(shape) for shape in shapes)), shapes[0][-1])


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
    monkeypatch.setattr(products, "_MANY_PRODUCTS", 3)
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
    monkeypatch.setattr(threads, "lone_products", products._MANY_PRODUCTS)
    tn.manual_seed(0)
    assert threads.lone_products == 0


def test_blas_multiplies_with_its_own_threads_into_out(monkeypatch):
    monkeypatch.setattr(products, "_ALONE", 0)
    monkeypatch.setattr(threads, "lone_products", products._MANY_PRODUCTS)
    a, b, out = normal(3, 4), normal(4, 5), np.empty((3, 5))
    assert products.matmul(a, b, out=out) is out
    np.testing.assert_array_equal(out, a @ b)
    with pytest.raises(ValueError, match="matmul"):
        products.matmul(a, a)


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
    result = products.matmul(a, b)
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
        products.matmul(normal(*shape_a), normal(*shape_b), out=out)
    assert not shared
    assert not out.any()


def test_within_shared_work_products_are_not_shared(shared):
    a, b = normal(6, 5), normal(5, 4)
    for product in threads.side_by_side(lambda _: products.matmul(a, b), [0, 1]):
        np.testing.assert_array_equal(product, a @ b)
    assert not shared


@pytest.mark.parametrize(
    ("rows", "plain", "plain_in_shared_work"), [(64, True, True), (65, False, True), (245, False, False)]
)
def test_a_loop_calls_numpy_where_matmul_would_do_no_more(rows, plain, plain_in_shared_work):
    """64 and 244 rows times (64, 64) are 2¹⁸ and just below 10⁶ multiplications."""
    a, b, out = normal(rows, 64), normal(64, 64), np.empty((rows, 64))
    chosen = [products.multiplier(b, out), *threads.side_by_side(lambda _: products.multiplier(b, out), [0, 1])]
    with threads.blas_alone():
        chosen.append(products.multiplier(b, out))
    assert [f is np.ndarray.dot for f in chosen] == [plain, *[plain_in_shared_work] * 3]
    for multiply in chosen:
        out[...] = np.nan
        multiply(a, b, out)
        np.testing.assert_allclose(out, a @ b, rtol=1e-12, atol=1e-12)


def test_a_loop_over_other_arrays_calls_matmul():
    b, out = normal(4, 4), np.empty((3, 4), np.float32)
    multiply = products.multiplier(b, out)
    multiply(normal(3, 4, dtype=np.float32), b, out)  # NumPy's dot would not take another dtype
    assert multiply is products.matmul
    assert products.multiplier(tn.Variable(b), tn.Variable(out)) is products.matmul


@pytest.fixture
def pieces(monkeypatch):
    """Products of more than 40 multiplications are made in pieces; gives how many rows, columns and terms those had."""
    sizes = []
    in_pieces = products._in_pieces

    def counted(a, b, out, *size):
        sizes.append(size)
        return in_pieces(a, b, out, *size)

    small = {"_ALONE": 0, "_UNCOPIED": 40, "_FEW_ROWS": 8, "_ROWS": range(4, 1, -1), "_COLUMNS": 4, "_TERMS": 2}
    for name, value in {**small, "_PARTS": 4, "_IN_CACHE": 60, "_NARROW": 12}.items():
        monkeypatch.setattr(products, name, value)
    monkeypatch.setattr(products, "_has_small_kernels", lambda: True)
    monkeypatch.setattr(products, "_in_pieces", counted)
    products._size_of_pieces.cache_clear()
    yield sizes
    products._size_of_pieces.cache_clear()


PIECES = [  # the shapes of factors, and how many rows, columns and terms pieces have
    ((2, 5), (5, 8), [(2, 4, 5)]),
    ((2, 5), (5, 7), [(2, 4, 5)]),  # and columns that are left over
    ((2, 12), (12, 3), [(2, 3, 6)]),  # narrower than a piece
    ((2, 12), (12, 9), [(2, 4, 4)]),
    ((3, 6), (2, 6, 9), [(3, 4, 3)]),
    ((2, 10), (3, 2, 10, 8), [(2, 4, 5)]),
    ((6, 6), (6, 8), [(3, 4, 3)]),  # more rows than a piece has
    ((8, 6), (6, 9), [(4, 4, 2)]),
    ((9, 4), (4, 3), [(3, 3, 4)]),  # many rows, of which a piece takes as many as it may
    ((31, 3), (3, 4), [(3, 4, 3)]),  # and one that is left over
    ((2, 55), (55, 4), [(2, 4, 5)]),  # in many parts
    ((2, 55), (55, 5), []),  # which is left where it is wider than a piece
    ((2, 5), (5, 4), []),  # small as it is
    ((6, 6), (6, 11), []),  # several groups of rows, and a second factor that does not stay in the cache
    ((3, 40), (40, 1), []),  # a vector
    ((1, 9), (9, 9), []),  # one row is left to BLAS
    ((7, 4), (4, 4), []),  # rows that cannot be cut
    ((31, 3), (2, 3, 4), []),  # several second factors, which together are not small
    ((31, 3), (3, 1), []),
    ((9, 4), (4, 4), []),  # many rows, and a second factor that is not small
    ((2, 11), (11, 8), []),  # sums of 11 terms cannot be cut
    ((3, 2, 5), (5, 8), []),  # several a
]


@pytest.mark.parametrize(("shape_a", "shape_b", "sizes"), PIECES)
def test_products_are_made_in_pieces(pieces, shape_a, shape_b, sizes):
    a, b = normal(*shape_a).astype(np.float32), normal(*shape_b).astype(np.float32)
    expected = a.astype(np.float64) @ b.astype(np.float64)
    wide = np.full((*expected.shape[:-1], 2 * expected.shape[-1]), 7, np.float32)
    for out in (None, wide[..., : expected.shape[-1]], np.empty(expected.shape[::-1], np.float32).T):
        result = products.matmul(a, b, out=out)
        assert out is None or result is out
        assert result.dtype == np.float32
        np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-5)
    assert (wide[..., expected.shape[-1] :] == 7).all()
    assert pieces == 3 * sizes


TRANSPOSED = [
    ((7, 9), (9, 3), [(7, 3, 1)]),  # all rows at once
    ((2, 12), (12, 4), [(2, 4, 4)]),
    ((2, 12), (12, 5), []),  # several columns of pieces
    ((31, 3), (3, 4), [(3, 4, 3)]),
]


@pytest.mark.parametrize(("shape_a", "shape_b", "sizes"), TRANSPOSED)
def test_the_first_factor_of_pieces_may_be_transposed(pieces, monkeypatch, shape_a, shape_b, sizes):
    monkeypatch.setattr(products, "_TERMS", 1)
    a, b = normal(*shape_a[::-1]).astype(np.float32).T, normal(*shape_b).astype(np.float32)
    np.testing.assert_allclose(products.matmul(a, b), a @ b, rtol=1e-5, atol=1e-5)
    assert pieces == sizes


@given(m=st.integers(2, 300), k=st.integers(1, 5000), n=st.integers(1, 3000), transposed=st.booleans())
def test_pieces_are_small_and_cut_sums_evenly(m, k, n, transposed):
    size = products._size_of_pieces(m, k, n, k * n, transposed)
    if size:
        rows, columns, terms = size
        assert 0 < rows * columns * terms <= products._UNCOPIED
        assert rows <= m
        assert columns <= n
        assert k % terms == 0
        assert terms >= min(k, products._TERMS)


@pytest.mark.parametrize("shapes", [((64, 1024), (1024, 272)), ((709, 59), (59, 200)), ((61, 8192), (8192, 32))])
@pytest.mark.parametrize("transposed", [False, True])
def test_products_of_real_size_are_those_of_numpy(shapes, transposed):
    a, b = (normal(*shape).astype(np.float32) for shape in shapes)
    a = a.T.copy().T if transposed else a
    np.testing.assert_allclose(products._product(a, b, None), a.astype(np.float64) @ b, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("shape_a", "shape_b", "shape_out"),
    [
        ((2, 5), (5, 8), (3, 8)),
        ((2, 5), (5, 8), (2, 12)),
        ((31, 3), (3, 4), (32, 4)),
        ((3, 6), (2, 3, 6, 8), (3, 2, 3, 8)),
        ((3, 6), (2, 3, 6, 8), (6, 3, 8)),
    ],
)
def test_pieces_are_not_written_to_an_array_of_another_shape(pieces, shape_a, shape_b, shape_out):
    out = np.zeros(shape_out, np.float32)
    with pytest.raises(ValueError, match=r"mismatch|broadcast"):
        products.matmul(normal(*shape_a, dtype=np.float32), normal(*shape_b, dtype=np.float32), out=out)
    assert not out.any()


def test_no_second_factors_at_all(pieces):
    product = products.matmul(np.ones((31, 11), np.float32), np.ones((1, 11, 10), np.float32)[:0])
    assert product.shape == (0, 31, 10)


def test_within_shared_work_products_are_made_in_pieces_too(pieces):
    a, b = normal(2, 5).astype(np.float32), normal(5, 8).astype(np.float32)
    for product in threads.side_by_side(lambda _: products.matmul(a, b), [0, 1]):
        np.testing.assert_allclose(product, a @ b, rtol=1e-5, atol=1e-5)
    assert pieces == [(2, 4, 5)] * 2


def test_pieces_are_for_float32_whose_rows_do_not_share_their_places_in_the_cache(pieces):
    a, b = normal(2, 5).astype(np.float32), normal(5, 8).astype(np.float32)
    page = np.empty((5, 1024), np.float32)[:, :8]
    page[...] = b
    gaps = np.repeat(a, 2, axis=1)[:, ::2]
    halves = a.astype(np.float16), b.astype(np.float16)
    others = (a.astype(np.float64), b), (a, b.astype(np.float64)), halves, (a, b.T.copy().T), (a, page), (gaps, b)
    for x, y in others:
        np.testing.assert_allclose(products.matmul(x, y), a @ b, rtol=2e-2, atol=2e-2)
    with pytest.raises(ValueError, match="mismatch"):
        threads.side_by_side(lambda _: products.matmul(a, b[:4]), [0, 1])
    np.testing.assert_allclose(products.matmul(a, b, out=np.empty((2, 8))), a @ b, rtol=1e-5, atol=1e-5)
    assert not pieces


@pytest.mark.parametrize("blas", ["SkylakeX", "Haswell", None])
def test_pieces_need_kernels_for_small_products(blas, monkeypatch):
    libraries = [SimpleNamespace(filepath="numpy.libs/openblas", architecture=blas)] if blas else []
    libraries.append(SimpleNamespace(filepath="mkl"))
    monkeypatch.setattr(threads, "blas", lambda: libraries)
    assert products._has_small_kernels.__wrapped__() == (blas == "SkylakeX")


@pytest.mark.parametrize(("shape_a", "shape_b"), SHAPES + NOT_SHARED + EMPTY)
def test_a_product_is_written_to_out(shared, shape_a, shape_b):
    a, b = normal(*shape_a), normal(*shape_b)
    expected = a @ b
    wide = np.full((*expected.shape[:-1], 2 * expected.shape[-1]), 7.0)
    out = wide[..., ::2]  # not contiguous
    assert products.matmul(a, b, out=out) is out
    np.testing.assert_allclose(out, expected, rtol=1e-12)
    assert (wide[..., 1::2] == 7).all()


@pytest.mark.parametrize("shape_a", [(2, 300), (5, 1000), (16, 2000), (17, 2000)])
@pytest.mark.parametrize("columns", [3, 16, 17, 900])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.complex64])
def test_few_rows_times_a_transposed_factor(shape_a, columns, dtype):
    rng = np.random.default_rng(0)
    a, w = (rng.standard_normal(shape).astype(dtype) for shape in (shape_a, (columns, shape_a[1])))
    product = products.matmul(a, w.T)
    assert product.flags.c_contiguous
    assert product.dtype == dtype
    np.testing.assert_allclose(product, np.einsum("ik,jk->ij", a, w, dtype=np.complex128), rtol=0, atol=1e-3)
    out = np.empty_like(product)
    assert products.matmul(a, w.T, out=out) is out
    np.testing.assert_allclose(out, product, rtol=0, atol=1e-3)
    with pytest.raises(ValueError, match="matmul"):
        products.matmul(a, w[:, 1:].T)


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
    np.testing.assert_allclose(products.matmul(a, b), a @ b, rtol=1e-12)
    assert shared


def test_factors_of_two_dtypes_give_the_wider_one(shared):
    assert products.matmul(normal(4, 5, dtype=np.float32), normal(5, 4)).dtype == np.float64
    assert shared


def test_a_large_product_is_cut_into_as_many_parts_as_are_worth_a_thread(monkeypatch):
    cuts = []

    def one_after_the_other(function, arguments):
        cuts.append(len(arguments))
        return [function(argument) for argument in arguments]

    monkeypatch.setattr(products, "side_by_side", one_after_the_other)
    monkeypatch.setattr(products, "count", lambda: 3)
    for rows, parts in [(64, []), (256, [2]), (512, [3])]:  # times 2**16 multiplications; a thread is worth 2**23
        cuts.clear()
        a, b = np.ones((rows, 256), np.float32), np.ones((256, 256), np.float32)
        assert (products.matmul(a, b) == 256).all()
        assert cuts == parts


@pytest.mark.parametrize(("shape_a", "shape_b"), [((4, 5), (4, 3)), ((2, 4, 5), (3, 5, 6)), ((3, 4, 5), (3, 4, 6))])
@pytest.mark.parametrize("size", ["small", "shared"])
def test_factors_that_do_not_fit_are_refused_and_blas_gets_its_threads_back(
    size, shape_a, shape_b, request, blas_of_two_threads, blas_threads
):
    if size == "shared":
        request.getfixturevalue("shared")
    with pytest.raises(ValueError, match=r"matmul|broadcast"):
        products.matmul(np.ones(shape_a), np.ones(shape_b))
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
    assert products.matmul(Foreign(), Foreign()) == "its own product"
    assert products.matmul(Foreign(), np.ones((2, 2))) == "its own product"
    out = Foreign()
    assert products.matmul(Foreign(), Foreign(), out=out) == ("its own product", out)
    assert not shared


def test_variables_are_multiplied_with_a_graph(shared):
    a, b = (tn.Variable(normal(4, 4), requires_grad=True) for _ in range(2))
    product = products.matmul(a, b)
    product.sum().backward()
    np.testing.assert_allclose(product.data, a.data @ b.data)
    np.testing.assert_allclose(a.grad, np.ones((4, 4)) @ b.data.T)
