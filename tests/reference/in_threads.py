"""Functions that begin at the same time in threads of Python, and those whose kernels run in one thread or in many."""

import threading

import numba

from nbkeras.kernels.runtime.threads import get_threads, set_threads

LIMIT = 60  # seconds after which threads count as hanging


def at_once(*functions):
    """The results of functions that begin at the same time in threads; the first exception is raised."""
    barrier, results = threading.Barrier(len(functions)), [None] * len(functions)

    def go(index):
        barrier.wait()
        try:
            results[index] = functions[index]()
        except BaseException as error:
            results[index] = error

    threads = [threading.Thread(target=go, args=(index,), daemon=True) for index in range(len(functions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(LIMIT)
    assert not any(thread.is_alive() for thread in threads)
    for error in results:
        if isinstance(error, BaseException):
            raise error
    return results


def by_threads(function):
    """The results of a function whose kernels run in one thread, and in all."""
    before, found = get_threads(), []
    try:
        for threads in {1, numba.config.NUMBA_NUM_THREADS}:
            set_threads(threads)
            found.append(function())
    finally:
        set_threads(before)
    return found
