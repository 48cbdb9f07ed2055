"""The networks of `keras.applications`: layers, outputs, files and arguments as in Keras 3; what they refuse."""

import gzip
import hashlib
import json
import pathlib

import applications_cases as cases
import numpy as np
import pytest
from compat_scripts import run_script

import nbkeras as keras
from nbkeras import layers
from nbkeras.applications import imagenet_utils, network, parts, scaling

FOLDER = pathlib.Path(__file__).parents[1] / "reference"
TOLD = json.loads((FOLDER / "applications.json").read_text(encoding="utf-8"))
APPLICATIONS = keras.applications


@pytest.fixture(autouse=True)
def names_from_the_start():
    keras.utils.clear_session()


def check_case(case):
    model, images = cases.made(keras, case)
    assert cases.structure(model) == TOLD["structures"][case]
    with np.load(FOLDER / "applications.npz") as expected:
        found, wanted = cases.few(model.predict(images, verbose=0)), expected[case]
    assert np.abs(found - wanted).max() <= 1e-4 * wanted[-1]


@pytest.mark.big
@pytest.mark.parametrize("case", cases.QUICK)
def test_layers_and_outputs_are_those_of_keras(case):
    check_case(case)


@pytest.mark.grid
@pytest.mark.big
@pytest.mark.parametrize("case", cases.SLOW)
def test_layers_and_outputs_of_large_networks_are_those_of_keras(case):
    check_case(case)


def test_names_and_signatures_are_those_of_keras():
    assert TOLD["signatures"] == {name: cases.signature(getattr(APPLICATIONS, name)) for name in cases.NAMES}
    for module, names in TOLD["modules"].items():
        found = getattr(APPLICATIONS, module)
        assert set(names) <= set(dir(found)) and {name for name in dir(found) if name[0] != "_"} == set(names), module
    assert set(dir(APPLICATIONS)) == {*cases.NAMES, *cases.MODULES}


def asked_file(monkeypatch, name, top, **options):
    """The file, URL and hash that a network asks for with Keras's weights, and the structure of the network."""
    asked = []
    monkeypatch.setattr(
        network, "get_file", lambda name, url, cache_subdir, file_hash: asked.append([name, url, file_hash])
    )
    monkeypatch.setattr(keras.Model, "load_weights", lambda *args: None)
    model = getattr(APPLICATIONS, name)(include_top=top, **options)
    (found,) = asked
    return [*found, cases.structure(model)]


@pytest.mark.grid
@pytest.mark.cpu("files are named before anything is computed; the simulator would keep the memory of all networks")
@pytest.mark.filterwarnings("ignore:.*those for images of 224x224 are used")
@pytest.mark.parametrize("name", cases.NAMES)
def test_files_with_weights_are_those_of_keras(name, monkeypatch):
    shape = (331, 331, 3) if name == "NASNetLarge" else None
    for top, told in zip((True, False), TOLD["files"][name], strict=True):
        keras.utils.clear_session()
        assert asked_file(monkeypatch, name, top, input_shape=shape) == told


def test_files_of_the_sizes_of_mobilenet(monkeypatch):
    assert (
        asked_file(monkeypatch, "MobileNet", True, alpha=0.5, input_shape=(160, 160, 3))[0] == "mobilenet_5_0_160_tf.h5"
    )
    file, url, *_ = asked_file(monkeypatch, "MobileNetV2", False, alpha=1.3, input_shape=(96, 96, 3))
    assert file == "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.3_96_no_top.h5" and url.endswith(
        f"mobilenet_v2/{file}"
    )
    with pytest.warns(UserWarning, match="those for images of 224x224 are used"):
        file = asked_file(monkeypatch, "MobileNet", False, alpha=0.25, input_shape=(64, 64, 3))[0]
    assert file == "mobilenet_2_5_224_tf_no_top.h5"


def test_weights_are_downloaded_once_and_checked(tmp_path, monkeypatch):
    def body(x, options):
        return layers.Conv2D(2, 1, name="conv")(x)

    function = network.network("Tiny", body, parts.pooled, f"{tmp_path.as_uri()}/tiny{{top}}.h5", "tiny", 8, 8)
    made = function(weights=None)
    made.save_weights(tmp_path / "tiny.h5")
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    right = hashlib.sha256((tmp_path / "tiny.h5").read_bytes()).hexdigest()
    monkeypatch.setattr(network, "_hashes", lambda: {"tiny.h5": right})
    for _ in range(2):
        np.testing.assert_array_equal(function().get_weights()[0], made.get_weights()[0])
        (tmp_path / "tiny.h5").write_bytes(b"another file")  # the second time it is in the cache
    (tmp_path / "home" / "models" / "tiny.h5").write_bytes(b"a broken file")
    with pytest.raises(ValueError, match="is not the expected file: its sha256 is"):
        function()
    with pytest.raises(
        ConnectionError, match="without a network, get the file elsewhere and put it at .*tiny_notop.h5"
    ):
        function(include_top=False)


def test_weights_of_a_file(tmp_path):
    options = {"alpha": 0.25, "classes": 3, "input_shape": (32, 32, 3)}
    first = APPLICATIONS.MobileNet(weights=None, **options)
    for file in ("all.h5", "all.weights.h5"):
        first.save_weights(tmp_path / file)
        second = APPLICATIONS.MobileNet(weights=tmp_path / file, **options)
        for each, other in zip(first.get_weights(), second.get_weights(), strict=True):
            np.testing.assert_array_equal(each, other)


def test_weights_of_a_file_of_keras_2(tmp_path):
    path = tmp_path / "old.h5"
    path.write_bytes(gzip.decompress((FOLDER / "applications.h5.gz").read_bytes()))
    _, side, options = cases.CASES[cases.OLD]
    shape = (side, side, 3)
    model = APPLICATIONS.MobileNet(weights=path, classifier_activation=None, input_shape=shape, **options)
    by_name, _ = cases.made(keras, cases.OLD)
    by_name.load_weights(path, by_name=True)
    for each in (model, by_name):
        found = cases.few(each.predict(cases.images(shape), verbose=0))
        with np.load(FOLDER / "applications.npz") as expected:
            wanted = expected["file of Keras 2"]
        assert np.abs(found - wanted).max() <= 1e-4 * wanted[-1]


def test_a_network_on_a_tensor_of_a_model():
    image = keras.Input((None, None, 3))
    scaled = layers.Resizing(32, 32)(image)
    features = APPLICATIONS.MobileNet(alpha=0.25, weights=None, include_top=False, input_tensor=scaled, pooling="avg")
    assert features.input is not None and features(np.zeros((2, 50, 40, 3), "float32")).shape == (2, 256)
    assert isinstance(features.layers[1], layers.Resizing)


def test_channels_first(monkeypatch):
    keras.config.set_image_data_format("channels_first")
    try:
        for name in ("MobileNetV2", "MobileNetV3Small", "EfficientNetV2B0", "VGG16"):
            model = getattr(APPLICATIONS, name)(weights=None, include_top=False, input_shape=(3, 32, 32))
            assert model.output_shape[2:] == (1, 1), name
        for name in ("DenseNet121", "NASNetMobile", "ConvNeXtTiny"):
            with pytest.raises(ValueError, match="takes images with the channels last only"):
                getattr(APPLICATIONS, name)(weights=None)
    finally:
        keras.config.set_image_data_format("channels_last")


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "VGG16",
            {"weights": "no.h5"},
            "weights must be None for random initial values, 'imagenet', or the path of a file",
        ),
        ("VGG16", {"weights": 3}, "or the path of a file that exists, received 3"),
        ("ResNet50", {"classes": 10}, "the weights 'imagenet' have 1000 classes, received classes=10"),
        (
            "ResNet50",
            {"classifier_activation": "relu"},
            "classifier_activation must be 'softmax' or None, received 'relu'",
        ),
        ("VGG16", {"input_shape": (224, 224)}, "input_shape must be a tuple of three positive integers, received"),
        (
            "VGG16",
            {"input_shape": "a big one"},
            "input_shape must be a tuple of three positive integers, received 'a big",
        ),
        ("VGG16", {"weights": None, "input_shape": (0, 224, 3)}, "a tuple of three positive integers, received"),
        ("VGG16", {"input_shape": (200, 200, 3)}, r"input_shape must be \(224, 224, 3\), received \(200, 200, 3\)"),
        ("VGG16", {"weights": None, "input_shape": (31, 40, 3)}, "images must be at least 32x32, received"),
        ("Xception", {"weights": None, "input_shape": (70, 80, 3)}, "images must be at least 71x71, received"),
        (
            "VGG16",
            {"weights": None, "input_shape": (None, None, 3)},
            "input_shape must not contain None here, received",
        ),
        (
            "NASNetLarge",
            {"include_top": False, "input_shape": (None, None, 3)},
            "input_shape must not contain None here",
        ),
        (
            "VGG16",
            {"include_top": False, "input_shape": (40, 40, 1)},
            "need images of 3 channels, received input_shape=",
        ),
        ("VGG16", {"weights": None, "include_top": False, "pooling": "mean"}, "pooling must be None, 'avg' or 'max'"),
        ("VGG16", {"weights": None, "input_tensor": np.ones((1, 32, 32, 3))}, "input_tensor must be a symbolic tensor"),
        ("MobileNet", {"alpha": 0.3}, "alpha must be 1.0 or 0.75 or 0.5 or 0.25, received 0.3"),
        ("MobileNet", {"depth_multiplier": 2}, "the weights 'imagenet' need depth_multiplier=1, received 2"),
        ("MobileNetV3Small", {"minimalistic": True, "alpha": 0.75}, "alpha must be 1.0, received 0.75"),
        ("VGG16", {"weights": None, "classes": 0}, "units must be a positive integer, received 0"),
    ],
)
def test_mistakes_are_explained(name, options, message):
    with pytest.raises(ValueError, match=message):
        getattr(APPLICATIONS, name)(**options)


def test_input_shape_and_input_tensor_agree():
    image = keras.Input((40, 40, 3))
    assert APPLICATIONS.MobileNetV2(alpha=0.35, weights=None, input_tensor=image, input_shape=(40, 40, 3)).inputs == [
        image
    ]
    with pytest.raises(ValueError, match="input_shape must be input_tensor's"):
        APPLICATIONS.MobileNetV2(weights=None, input_tensor=image, input_shape=(48, 48, 3))


def test_unknown_arguments_are_named():
    with pytest.raises(
        TypeError, match="VGG16: got an unexpected keyword argument 'alpha'; its arguments are include_top"
    ):
        APPLICATIONS.VGG16(alpha=0.5)


def test_images_of_five_channels_are_unusual():
    with pytest.warns(UserWarning, match="usually expects images of 1 or 3 channels"):
        APPLICATIONS.MobileNetV2(alpha=0.35, weights=None, include_top=False, input_shape=(32, 32, 5))


# -------------------- training, and files of whole models --------------------


@pytest.mark.big
def test_features_are_frozen_and_a_new_end_is_trained():
    features = APPLICATIONS.MobileNetV2(
        alpha=0.35, weights=None, include_top=False, pooling="avg", input_shape=(32, 32, 3)
    )
    features.trainable = False
    model = keras.Sequential([features, layers.Dense(2, activation="softmax")])
    model.compile("sgd", "sparse_categorical_crossentropy")
    before = [each.copy() for each in features.get_weights()]
    model.fit(np.ones((4, 32, 32, 3), "float32"), np.array([0, 1, 0, 1]), verbose=0)
    assert all(np.array_equal(each, other) for each, other in zip(before, features.get_weights(), strict=True))
    features.trainable = True
    model.compile("sgd", "sparse_categorical_crossentropy")
    model.fit(np.ones((4, 32, 32, 3), "float32"), np.array([0, 1, 0, 1]), verbose=0)
    assert not all(np.array_equal(each, other) for each, other in zip(before, features.get_weights(), strict=True))


def test_layers_of_networks_in_files(tmp_path):
    first, second = keras.Input((2, 3)), keras.Input((2, 3))
    x = scaling.CustomScaleLayer(0.5)([first, scaling.LayerScale(0.1, 3)(second)])
    model = keras.Model([first, second], scaling.StochasticDepth(0.25)(x))
    model.save(tmp_path / "model.keras")
    inputs = [np.ones((8, 2, 3), "float32"), np.ones((8, 2, 3), "float32")]
    np.testing.assert_allclose(keras.models.load_model(tmp_path / "model.keras").predict(inputs, verbose=0), 1.05, 1e-6)
    assert keras.layers.serialize(model.layers[-1])["module"] == "keras.src.applications.convnext"
    kept = np.unique(np.asarray(model(inputs, training=True)).round(4))
    assert set(kept) <= {0.0, np.float32(1.4)}
    with pytest.raises(ValueError, match="drop_path_rate must be a number from 0 to 1"):
        scaling.StochasticDepth(1.5)


@pytest.mark.grid
@pytest.mark.cpu("exports and integers are made on the CPU")
@pytest.mark.parametrize(
    "case", ["MobileNetV2 of a third", "MobileNetV3Small", "EfficientNetB0", "ConvNeXtTiny, features"]
)
def test_networks_in_onnx(case, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    model, images = cases.made(keras, case)
    model.export(tmp_path / "model.onnx", format="onnx", verbose=False)
    session = runtime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    expected = model.predict(images, verbose=0)
    (found,) = session.run(None, {session.get_inputs()[0].name: images})
    assert np.abs(found - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.cpu("integers are made on the CPU")
def test_a_network_with_integers():
    model, images = cases.made(keras, "MobileNetV2 of a third")
    expected = model.predict(images, verbose=0)
    model.quantize("int8", beyond_keras=True)
    assert np.abs(model.predict(images, verbose=0) - expected).max() <= 0.05 * np.abs(expected).max()


@pytest.mark.process
@pytest.mark.parametrize("version", ["2", "3"])
def test_scripts_of_keras(version, tmp_path):
    source = """
        import sys
        import nbkeras
        assert not [name for name in sys.modules if name.startswith("nbkeras.applications")]
        from tensorflow.keras.applications import MobileNet
        from keras.applications.resnet50 import ResNet50, preprocess_input
        import keras
        assert keras.applications.ResNet50 is ResNet50 is nbkeras.applications.ResNet50
        print(MobileNet(weights=None, alpha=0.25, classes=3, input_shape=(32, 32, 3)).output_shape)
        """
    assert run_script(tmp_path, source, options=("--keras", version, "--tensorflow")) == "(None, 3)\n"


# -------------------- images and classes --------------------


@pytest.mark.parametrize(("mode", "place", "rank"), cases.PREPARED)
def test_images_are_prepared_as_by_keras(mode, place, rank):
    images = cases.to_prepare(place, rank)
    with np.load(FOLDER / "applications.npz") as expected:
        wanted = expected[f"prepared {mode} {place} {rank}"]
    tensor = imagenet_utils.preprocess_input(keras.ops.convert_to_tensor(images), f"channels_{place}", mode)
    np.testing.assert_allclose(tensor, wanted, rtol=1e-5, atol=1e-5)
    given = images.copy()
    found = imagenet_utils.preprocess_input(given, f"channels_{place}", mode)
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)
    assert np.shares_memory(given, found)  # as in Keras, an array of floats is changed itself


def test_images_of_other_kinds():
    whole = np.full((1, 2, 2, 3), 255, "uint8")
    assert imagenet_utils.preprocess_input(whole, mode="tf").dtype == np.float32 and whole.min() == 255
    fixed = np.zeros((2, 2, 3))
    fixed.flags.writeable = False
    assert imagenet_utils.preprocess_input(fixed, mode="tf").max() == -1 and fixed.max() == 0
    symbolic = APPLICATIONS.resnet50.preprocess_input(keras.Input((None, None, 3), dtype="uint8"))
    assert symbolic.shape == (None, None, None, 3) and symbolic.dtype == "float32"
    same = np.ones(2)
    assert APPLICATIONS.efficientnet.preprocess_input(same) is same


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (np.ones((2, 2, 3)), {"mode": "jax"}, "mode must be one of caffe, tf, torch, received 'jax'"),
        (
            np.ones((2, 2, 3)),
            {"data_format": "last"},
            "data_format must be one of channels_first, channels_last, received",
        ),
        (np.ones((2, 2)), {}, r"with 3 or 4 axes and 3 channels, received the shape \(2, 2\)"),
        (np.ones((2, 2, 4)), {}, r"with 3 or 4 axes and 3 channels, received the shape \(2, 2, 4\)"),
        ("picture.png", {}, "with 3 or 4 axes and 3 channels, received 'picture.png'"),
    ],
    ids=["mode", "data format", "two axes", "four channels", "a name"],
)
def test_images_that_cannot_be_prepared(images, options, message):
    with pytest.raises(ValueError, match=message):
        imagenet_utils.preprocess_input(images, **options)


def test_predictions_have_names(tmp_path, monkeypatch):
    path = tmp_path / "index.json"
    path.write_text(json.dumps({str(n): [f"n{n:08}", f"class {n}"] for n in range(1000)}), encoding="utf-8")
    monkeypatch.setattr(imagenet_utils, "get_file", lambda *args, **kwargs: str(path))
    imagenet_utils._names.cache_clear()
    scores = np.zeros((2, 1000), "float32")
    scores[0, [3, 7]], scores[1, 999] = (0.25, 0.5), 1
    try:
        first, second = APPLICATIONS.vgg16.decode_predictions(keras.ops.convert_to_tensor(scores), top=2)
    finally:
        imagenet_utils._names.cache_clear()
    assert first == [("n00000007", "class 7", 0.5), ("n00000003", "class 3", 0.25)]
    assert second[0] == ("n00000999", "class 999", 1.0)


@pytest.mark.parametrize(
    "given", [np.ones(1000), np.ones((1, 10)), "predictions"], ids=["one axis", "ten classes", "text"]
)
def test_predictions_without_names(given):
    with pytest.raises(ValueError, match=r"takes predictions of the shape \(images, 1000\), received the shape"):
        imagenet_utils.decode_predictions(given)
