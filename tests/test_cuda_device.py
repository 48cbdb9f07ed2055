"""Arrays on a device: views, copies in and out, memory, errors; in the simulator or on a GPU."""

import numpy as np
import pytest
import twins

pytestmark = twins.needs_cuda


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8, np.bool_])
def test_what_goes_in_comes_out(dtype):
    value = np.arange(24).reshape(2, 3, 4).astype(dtype)
    array = twins.to(twins.place(), value)
    np.testing.assert_array_equal(array.copy(), value)
    np.testing.assert_array_equal(array.reshape(6, 4).copy(), value.reshape(6, 4))
    np.testing.assert_array_equal(array[1].copy(), value[1])
