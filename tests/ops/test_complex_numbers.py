"""Arrays of complex numbers, which tests/parity compares with Keras's: dtypes, gradients of the real parts, and mistakes."""

import numpy as np
from mistakes import mistakes

from nbkeras import ops

Z = np.array([[1 + 2j, -3j], [0, 2]])


def test_parts_keep_the_precision():
    assert ops.real(Z).dtype == ops.imag(Z).dtype == ops.angle(Z).dtype == np.float64
    assert ops.real(Z.astype("complex64")).dtype == np.float32
    assert ops.polar(np.ones(2), np.ones(2)).dtype == ops.view_as_complex(np.ones((3, 2))).dtype == np.complex128


def test_parts_and_numbers_agree():
    np.testing.assert_array_equal(ops.view_as_complex(ops.view_as_real(Z)), Z)
    np.testing.assert_allclose(ops.polar(np.abs(Z), ops.angle(Z)), Z, atol=1e-15)
    values, vectors = ops.linalg.eig(np.array([[0.0, -1.0], [1.0, 0.0]]))
    np.testing.assert_allclose(vectors * values @ np.linalg.inv(vectors), [[0, -1], [1, 0]], atol=1e-15)


def test_a_real_number_has_a_gradient():
    values, tangents = ops.jvp(lambda x: ops.conj(ops.real(x)) * x, (np.array([3.0]),), (np.array([1.0]),))
    assert values.numpy() == 9.0 and tangents.numpy() == 6.0


test_mistakes_are_explained = mistakes(
    [
        (lambda: ops.view_as_complex(np.ones((2, 3))), r"a real and an imaginary part, received shape \(2, 3\)"),
        (lambda: ops.view_as_complex(1.0), r"a real and an imaginary part, received shape \(\)"),
        (lambda: ops.eig(np.ones((2, 3))), r"must be those of square matrices, received shape \(2, 3\)"),
        (lambda: ops.eig(np.ones(3)), r"must be those of square matrices, received shape \(3,\)"),
    ],
    ValueError,
)
