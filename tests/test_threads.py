"""The library's own threads: shared work, and BLAS held to one thread meanwhile."""

import gc
import os
import subprocess
import sys
import threading
import time
import warnings
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import threadpoolctl
from hypothesis import given
from hypothesis import strategies as st

from tinygrad_nlp import threads

TIMEOUT = 30  # seconds: only a deadlock takes that long


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


def test_within_shared_work_nothing_is_shared_again():
    meeting = threading.Barrier(2, timeout=TIMEOUT)

    def inner(_):
        return threading.current_thread()

    def outer(_):
        meeting.wait()
        busy = threading.current_thread()
        for _ in range(2):  # the first call does not end the state
            assert threads.side_by_side(inner, range(4)) == [busy] * 4

    threads.side_by_side(outer, [0, 1])


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
libraries = [library.get_num_threads() for library in threads.blas()]

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
                held = {{library.get_num_threads() for library in threads.blas()}} == {{1}}
            after = [1] * len(libraries) if {inside} else libraries
            same = [library.get_num_threads() for library in threads.blas()] == after
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
def test_blas_has_one_thread_inside_and_as_many_as_before_outside(fails, blas_of_two_threads, blas_threads):
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
def test_of_two_users_at_once_the_last_gives_blas_its_threads_back(fails, blas_of_two_threads, blas_threads):
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


def test_the_user_can_still_set_blas_after_another_thread_has_held_it(blas_threads):
    with threadpoolctl.threadpool_limits(2, "blas"), ThreadPoolExecutor(1) as pool:
        pool.submit(threads.side_by_side, abs, [1, 2]).result()
        with threadpoolctl.threadpool_limits(3, "blas"):
            assert set(blas_threads()) == {3}
        assert set(blas_threads()) == {2}
