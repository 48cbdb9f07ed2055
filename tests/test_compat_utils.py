"""Small functions of Keras 2's utils: arguments of functions, lists, shapes, sizes of convolutions."""

import numpy as np
import pytest

from nbkeras.compat import conv_utils, generic_utils


def test_has_arg():
    def f(x, *args, y=1, **kwargs):
        pass

    assert generic_utils.has_arg(f, "x") and generic_utils.has_arg(f, "y") and not generic_utils.has_arg(f, "args")
    assert not generic_utils.has_arg(f, "z") and generic_utils.has_arg(f, "z", accept_all=True)
    assert not generic_utils.has_arg(lambda x: x, "z", accept_all=True)


def test_lists():
    assert generic_utils.to_list(1) == [1] and generic_utils.to_list((1, 2), allow_tuple=True) == [1, 2]
    assert generic_utils.unpack_singleton([1]) == 1 and generic_utils.unpack_singleton([1, 2]) == [1, 2]
    assert generic_utils.is_all_none((None, None)) and not generic_utils.is_all_none([None, 1])
    assert generic_utils.object_list_uid([1, 2]).count(",") == 1
    x = np.arange(4)
    assert generic_utils.slice_arrays([x, None], 1, 3)[0].tolist() == [1, 2]
    assert generic_utils.slice_arrays(x, [0, 3]).tolist() == [0, 3] and generic_utils.slice_arrays(None) == [None]


def test_shapes():
    assert generic_utils.transpose_shape((2, 3, 4, 5), "channels_first", (1, 2)) == (2, 5, 3, 4)
    assert generic_utils.transpose_shape([2, 3, 5], "channels_last", (1,)) == [2, 3, 5]
    with pytest.raises(ValueError, match="received 'last'"):
        generic_utils.transpose_shape((2, 3), "last", (1,))


@pytest.mark.parametrize("padding, length", [("same", 10), ("causal", 10), ("valid", 6), ("full", 14)])
def test_sizes_of_convolutions(padding, length):
    assert conv_utils.conv_output_length(10, 3, padding, 1, dilation=2) == length
    assert conv_utils.conv_output_length(10, 3, padding, 2, dilation=2) == (length + 1) // 2
    assert conv_utils.conv_output_length(None, 3, padding, 2) is None


def test_sizes_of_transposed_convolutions():
    assert (
        conv_utils.conv_input_length(14, 5, "valid", 2) == 31
        and conv_utils.conv_input_length(None, 5, "same", 1) is None
    )
    assert (
        conv_utils.deconv_length(32, 2, 5, "valid", None) == 67 and conv_utils.deconv_length(32, 2, 5, "valid", 1) == 68
    )
    assert (
        conv_utils.deconv_length(32, 2, 5, "full", None) == 59
        and conv_utils.deconv_length(None, 2, 5, "same", 1) is None
    )
    with pytest.raises(ValueError, match="received 'diagonal'"):
        conv_utils.deconv_length(3, 2, 5, "diagonal", None)


def test_arguments_of_convolutions():
    assert conv_utils.normalize_tuple(5, 2, "size") == (5, 5) and conv_utils.normalize_tuple([7, 9], 2, "size") == (
        7,
        9,
    )
    for wrong in (None, [2, 3, 4], ["a", "b"]):
        with pytest.raises(ValueError, match="`size` argument must be a tuple of 2 integers"):
            conv_utils.normalize_tuple(wrong, 2, "size")
    assert conv_utils.normalize_padding("SAME") == "same"
    with pytest.raises(ValueError, match="received 'diagonal'"):
        conv_utils.normalize_padding("diagonal")
    kernel = np.arange(6.0).reshape(3, 2, 1)
    np.testing.assert_array_equal(conv_utils.convert_kernel(kernel)[:, :, 0], [[4, 5], [2, 3], [0, 1]])
    with pytest.raises(ValueError, match="3 to 5 axes"):
        conv_utils.convert_kernel(np.zeros((2, 2)))
