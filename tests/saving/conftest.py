"""Files that may hold no more than some bytes, as on a full disk."""

import contextlib
import resource
import signal

import pytest


@contextlib.contextmanager
def limited_files(size):
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


@pytest.fixture
def limit_files():
    return limited_files
