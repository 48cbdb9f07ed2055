"""Tests of error messages."""

import pytest


def mistakes(rows, error=None):
    """A test that each call raises an error with a message: rows of (call, error, message), or (call, message) of one error."""
    if error is not None:

        @pytest.mark.parametrize("call, message", rows)
        def test(call, message):
            with pytest.raises(error, match=message):
                call()

        return test

    @pytest.mark.parametrize("call, error, message", rows)
    def test_of_several(call, error, message):
        with pytest.raises(error, match=message):
            call()

    return test_of_several
