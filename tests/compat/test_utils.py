"""Small functions of Keras 2's utils: arguments of functions, lists, shapes, sizes, kernels, targets and weights."""

import contextlib
import os
import tarfile
import zipfile

import numpy as np
import pytest

from nbkeras import Sequential, config, layers, losses, ops
from nbkeras.compat import settings_file
from nbkeras.compat.keras2 import conv_utils, downloading, generic_utils, images, layer_utils, training_utils


def test_has_arg():
    def f(x, *args, y=1, **kwargs):
        pass

    assert generic_utils.has_arg(f, "x") and generic_utils.has_arg(f, "y") and not generic_utils.has_arg(f, "args")
    assert not generic_utils.has_arg(f, "z") and generic_utils.has_arg(f, "z", accept_all=True)
    assert not generic_utils.has_arg(lambda x: x, "z", accept_all=True)


def test_lists_are_made_and_taken_apart():
    assert generic_utils.to_list(1) == [1] and generic_utils.to_list((1, 2), allow_tuple=True) == [1, 2]
    assert generic_utils.unpack_singleton([1]) == 1 and generic_utils.unpack_singleton([1, 2]) == [1, 2]
    assert generic_utils.object_list_uid([1, 2]).count(",") == 1
    x = np.arange(4)
    assert generic_utils.slice_arrays([x, None], 1, 3)[0].tolist() == [1, 2]
    assert generic_utils.slice_arrays(x, [0, 3]).tolist() == [0, 3] and generic_utils.slice_arrays(None) == [None]


@pytest.mark.parametrize("padding, length", [("same", 10), ("causal", 10), ("valid", 6), ("full", 14)])
def test_sizes_of_convolutions(padding, length):
    assert conv_utils.conv_output_length(10, 3, padding, 1, dilation=2) == length
    assert conv_utils.conv_output_length(10, 3, padding, 2, dilation=2) == (length + 1) // 2
    assert conv_utils.conv_output_length(None, 3, padding, 2) is None


def test_sizes_of_transposed_convolutions():
    before, after = conv_utils.conv_input_length, conv_utils.deconv_length
    assert before(14, 5, "valid", 2) == 31 and before(None, 5, "same", 1) is None
    assert after(32, 2, 5, "valid", None) == 67 and after(32, 2, 5, "valid", 1) == 68
    assert after(32, 2, 5, "full", None) == 59 and after(None, 2, 5, "same", 1) is None
    with pytest.raises(ValueError, match="received 'diagonal'"):
        after(3, 2, 5, "diagonal", None)


def test_arguments_of_convolutions():
    assert [conv_utils.normalize_tuple(given, 2, "size") for given in (5, [7, 9])] == [(5, 5), (7, 9)]
    for wrong in (None, [2, 3, 4], ["a", "b"]):
        with pytest.raises(ValueError, match="`size` argument must be a tuple of 2 integers"):
            conv_utils.normalize_tuple(wrong, 2, "size")
    assert conv_utils.normalize_padding("SAME") == "same"
    with pytest.raises(ValueError, match="received 'diagonal'"):
        conv_utils.normalize_padding("diagonal")
    kernel = np.arange(6.0).reshape(3, 2, 1)
    np.testing.assert_array_equal(conv_utils.convert_kernel(kernel)[:, :, 0], [[4, 5], [2, 3], [0, 1]])
    with pytest.raises(ValueError, match=r"has 3 to 5 axes, received shape \(2, 2\)"):
        conv_utils.convert_kernel(np.zeros((2, 2)))


def test_kernels_of_another_backend_and_data_format():
    model = Sequential([layers.Input((5, 5, 3)), layers.Conv2D(2, (4, 3)), layers.Flatten(), layers.Dense(5)])
    x, kernel = np.random.rand(1, 5, 5, 3).astype("f"), model.layers[0].get_weights()[0]
    before, maps = model.predict(x), model.layers[0](x).numpy()[0]
    layer_utils.convert_all_kernels_in_model(model)
    np.testing.assert_array_equal(model.layers[0].get_weights()[0], kernel[::-1, ::-1])
    layer_utils.convert_dense_weights_data_format(model.layers[2], (2, 2, 3), "channels_first")
    moved, bias = model.layers[2].get_weights()
    np.testing.assert_allclose(maps.transpose(2, 0, 1).reshape(1, -1) @ moved + bias, before, rtol=1e-4, atol=1e-5)
    layer_utils.convert_dense_weights_data_format(model.layers[2], maps.shape, "channels_last")
    back = model.layers[2].get_weights()[0]
    np.testing.assert_allclose(maps.reshape(1, -1) @ back + bias, before, rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match="data_format must be"):
        layer_utils.convert_dense_weights_data_format(model.layers[2], (2, 2, 3), "first")


def test_lengths_and_targets():
    check, a, b = training_utils.check_array_length_consistency, np.ones((4, 3)), np.ones((3, 3))
    check([a, a], [a], [a])
    check([None], [None], None)
    for wrong, message in (
        (([a, b], [a], [a]), r"the same number of samples, received \[3, 4\]"),
        (([a], [b], [b]), "there are 4 inputs, but 3 targets"),
        (([a], [a], [b]), "there are 3 sample weights, but 4 targets"),
        (([a], None, None), "there are 4 inputs, but 0 targets"),
    ):
        with pytest.raises(ValueError, match=message):
            check(*wrong)
    fits, y = training_utils.check_loss_and_target_compatibility, np.ones((2, 3, 1))
    fits([np.ones((2, 1, 3)), y, None], ["mse", losses.Hinge(), None], [(2, None, 3), (2, 3, 4), (2,)])
    with pytest.raises(ValueError, match="You are passing a target array"):
        fits([y], [losses.CategoricalCrossentropy()], [y.shape])
    with pytest.raises(ValueError, match="targets to have the same shape"):
        fits([y], [losses.mean_squared_error], [(2, 3, 6)])


def test_weights_of_samples_and_masked_losses():
    y, weights, classes = np.array([0, 1, 2]), np.array([0.5, 1.0, 2.0]), {0: 0.5, 1: 1.0, 2: 1.5}
    standard = training_utils.standardize_weights
    np.testing.assert_allclose(standard(y), np.ones(3))
    np.testing.assert_allclose(standard(y, weights, classes), [0.25, 1, 3])
    assert standard(np.ones((2, 3, 4)), sample_weight_mode="temporal").shape == (2, 3)
    with pytest.raises(ValueError, match="sample_weight must have the shape"):
        standard(y, np.ones(2))
    assert training_utils.weighted_masked_objective(None) is None
    loss = training_utils.weighted_masked_objective(losses.mean_absolute_error)
    true, mask = ops.convert_to_tensor(np.arange(12.0, dtype="f").reshape(2, 3, 2)), np.array([[1, 1, 0], [1, 1, 1]])
    errors = np.arange(12.0).reshape(2, 3, 2).mean(-1)
    assert float(loss(true, true * 2, None)) == pytest.approx(errors.mean(), rel=1e-5)
    assert float(loss(true, true * 2, None, mask)) == pytest.approx(errors[mask > 0].mean(), rel=1e-5)
    assert float(loss(true, true * 2, np.array([0.0, 3.0], "f"))) == pytest.approx(errors[1].mean() * 3, rel=1e-5)


def test_load_img_with_an_argument_more(tmp_path):
    pytest.importorskip("PIL")
    path = tmp_path / "image.png"
    image = images.images.array_to_img(np.full((4, 5, 3), 7.0), scale=False)
    image.save(path)
    assert images.load_img(path).mode == "RGB" and images.load_img(path, target_size=(2, 3)).size == (3, 2)
    assert images.load_img(path, True).mode == images.load_img(path, "grayscale").mode == "L"


def test_batches_of_an_array():
    assert training_utils.make_batches(7, 3) == [(0, 3), (3, 6), (6, 7)]


def test_an_archive_is_unpacked_beside_itself(tmp_path):
    """As Keras 2 does: into the folder that holds it, and files that are there stay."""
    (tmp_path / "flowers").mkdir()
    (tmp_path / "flowers" / "rose.txt").write_text("new")
    tar, packed = tmp_path / "origin.tar.gz", tmp_path / "origin.zip"
    with tarfile.open(tar, "w:gz") as file:
        file.add(tmp_path / "flowers", "flowers")
    with zipfile.ZipFile(packed, "w") as file:
        file.writestr("flowers/rose.txt", "newer")
        file.writestr("tulip.txt", "tulip")
    cache = tmp_path / "cache"
    folder = downloading.get_file("flowers", tar.as_uri(), untar=True, cache_dir=cache)
    assert folder == str(cache / "datasets" / "flowers") and os.listdir(folder) == ["rose.txt"]
    path = downloading.get_file("all.zip", packed.as_uri(), extract=True, cache_dir=cache)
    assert path == str(cache / "datasets" / "all.zip")
    assert (cache / "datasets" / "tulip.txt").read_text() == "tulip"
    assert (cache / "datasets" / "flowers" / "rose.txt").read_text() == "new"
    origin = (tmp_path / "flowers" / "rose.txt").as_uri()
    again = downloading.get_file(os.path.join("sub", "a.txt"), origin, cache_dir=cache)
    assert again == str(cache / "datasets" / "sub" / "a.txt")


def test_settings_of_keras_json(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with contextlib.ExitStack() as undo:
        settings_file.read(undo)  # there is no file
        assert config.floatx() == "float32"
        (tmp_path / "keras.json").write_text('{"floatx": "float64"}')
        settings_file.read(undo)
        assert config.floatx() == "float64"
    assert config.floatx() == "float32"
    (tmp_path / "keras.json").write_text("{")
    with pytest.raises(ValueError, match="keras.json is not valid JSON .*: correct or remove it"):
        settings_file.read(undo)
