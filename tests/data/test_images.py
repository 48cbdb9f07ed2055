"""Images: ImageDataGenerator against stored numbers of Keras (tests/reference/make_augmentation.py), files with pillow."""

import functools
import pathlib
import warnings

import augmentation_cases
import numpy as np
import pytest

import nbkeras
from nbkeras import config, layers, models, ops, utils
from nbkeras.preprocessing import image
from nbkeras.preprocessing.image import ImageDataGenerator

STORED = np.load(pathlib.Path(augmentation_cases.__file__).with_name("augmentation.npz"))
images = augmentation_cases.images


@pytest.mark.parametrize("name", augmentation_cases.AFFINE)
def test_affine_transforms_are_keras_s(name):
    shape, arguments = augmentation_cases.AFFINE[name]
    result = image.apply_affine_transform(images(shape)[0], **arguments)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, STORED[f"affine {name}"], rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", augmentation_cases.GENERATORS)
def test_flows_are_keras_s(name):
    found = augmentation_cases.flow_numbers(ImageDataGenerator, augmentation_cases.GENERATORS[name])
    # an inverse of SVD
    tolerance = {"rtol": 1e-2, "atol": 2e-3} if name == "whitening" else {"rtol": 1e-5, "atol": 1e-3}
    np.testing.assert_allclose(found, STORED[f"flow {name}"], **tolerance)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: image.random_rotation(x, 20, 0, 1, 2),
        lambda x: image.random_shift(x, 0.2, 0.3, 0, 1, 2),
        lambda x: image.random_shear(x, 10, 0, 1, 2),
        lambda x: image.random_zoom(x, (0.5, 0.9), 0, 1, 2),
        lambda x: image.random_channel_shift(x, 20.0),
        lambda x: image.random_brightness(x, (0.5, 1.5)),
    ],
)
def test_random_functions_keep_shapes_and_repeat_by_seed(make):
    x = images()[0]
    np.random.seed(3)
    first = make(x)
    np.random.seed(3)
    np.testing.assert_array_equal(make(x), first)
    assert first.shape == x.shape and (first != x).any()


def test_integer_images_are_rounded():
    x = np.array([0, 3, 255], "uint8").reshape(1, 3, 1)
    moved = image.apply_affine_transform(x, tx=0.5, row_axis=0, col_axis=1, channel_axis=2)
    assert moved.dtype == np.uint8 and moved.ravel().tolist() == [2, 129, 255]


@pytest.mark.parametrize("form, shape", [("channels_last", (2, 2, 4)), ("channels_first", (4, 2, 2))])
def test_brightness_leaves_opacity(form, shape):
    x = np.full(shape, 100.0, "float32")
    bright = image.apply_brightness_shift(x, 1.5, False, form)
    channels = bright if form == "channels_first" else bright.transpose(2, 0, 1)
    assert channels[:, 0, 0].tolist() == [150, 150, 150, 100]


def test_the_middle_of_any_image_stays_where_it_is():
    x = np.arange(15.0).reshape(3, 5, 1)
    turned = image.apply_affine_transform(x, 180, row_axis=0, col_axis=1, channel_axis=2)
    np.testing.assert_allclose(turned, x[::-1, ::-1], atol=1e-9)


@pytest.mark.parametrize(
    "arguments, moved",
    [
        ({"width_shift_range": [2]}, {(0, 2), (0, -2)}),
        ({"height_shift_range": [1.0]}, {(1, 0), (-1, 0)}),
        ({"height_shift_range": [0.4]}, {(2, 0), (-2, 0)}),
        ({"width_shift_range": 2}, {(0, -1), (0, 0), (0, 1)}),
    ],
)
def test_shifts_move_by_whole_pixels_of_a_list_or_an_integer(arguments, moved):
    x = np.zeros((5, 7, 1), "float32")
    x[2, 3] = 1
    make = ImageDataGenerator(fill_mode="constant", **arguments)
    found = set()
    for seed in range(12):
        row, column, _ = np.argwhere(make.random_transform(x, seed=seed) > 0.5)[0]
        found.add((int(row) - 2, int(column) - 3))
    assert found == moved


def test_shifts_by_a_share_of_the_size():
    make = ImageDataGenerator(width_shift_range=0.5, height_shift_range=0.1)
    drawn = [make.get_random_transform((10, 20, 3)) for _ in range(50)]
    assert 8 < max(abs(each["tx"]) for each in drawn) <= 10 and max(abs(each["ty"]) for each in drawn) <= 1


class TestFlow:
    x, y = images(count=5), np.arange(5)

    def test_as_a_sequence_and_as_an_iterator(self):
        batches = ImageDataGenerator().flow(self.x, self.y, batch_size=2, shuffle=False)
        assert len(batches) == 3
        assert [y.tolist() for _, y in (batches[i] for i in range(3))] == [[0, 1], [2, 3], [4]]
        assert [next(batches)[1].tolist() for _ in range(4)] == [[0, 1], [2, 3], [4], [0, 1]]
        batches.reset()
        assert next(iter(batches))[1].tolist() == [0, 1]
        with pytest.raises(ValueError, match="asked for batch 3 of an iterator with 3 batches"):
            batches[3]

    def test_iterators_of_ones_own(self):
        class Rows(image.Iterator):
            def _get_batches_of_transformed_samples(self, index_array):
                return index_array.tolist()

        rows = Rows(5, 2, False, None)
        assert next(rows) == [0, 1] and next(rows.index_generator).tolist() == [2, 3] and rows.next() == [4]
        assert list(rows[i] for i in range(3)) == [[0, 1], [2, 3], [4]]
        with pytest.raises(NotImplementedError, match="must define _get_batches_of_transformed_samples"):
            next(image.Iterator(1, 1, False, None))

    def test_every_sample_once_in_an_epoch(self):
        batches = ImageDataGenerator().flow(self.x, self.y, batch_size=2)
        for _ in range(3):
            assert sorted(np.concatenate([batches[i][1] for i in range(3)])) == [0, 1, 2, 3, 4]
            batches.on_epoch_end()

    def test_without_targets_with_weights_and_with_other_inputs(self):
        make = ImageDataGenerator()
        assert isinstance(make.flow(self.x)[0], np.ndarray)
        assert len(make.flow(self.x, self.y, sample_weight=self.y)[0]) == 3
        (x, other), y = make.flow([self.x, self.y * 2], self.y)[0]
        np.testing.assert_array_equal(other, y * 2)

    def test_subsets(self):
        make = ImageDataGenerator(validation_split=0.4)
        y = np.zeros(5)
        assert make.flow(self.x, y, subset="validation").n == 2 and make.flow(self.x, y, subset="training").n == 3
        with pytest.raises(ValueError, match="have different classes"):
            make.flow(self.x, self.y, subset="training")
        with pytest.raises(ValueError, match="Invalid subset name: 'test'"):
            make.flow(self.x, y, subset="test")

    def test_channels_first(self):
        first, second = (
            ImageDataGenerator(data_format=form, rotation_range=20, zoom_range=0.1)
            for form in ("channels_first", "channels_last")
        )
        found = next(first.flow(self.x.transpose(0, 3, 1, 2), seed=1))
        np.testing.assert_allclose(found.transpose(0, 2, 3, 1), next(second.flow(self.x, seed=1)), rtol=1e-5)

    def test_a_model_learns_from_it(self):
        model = models.Sequential([layers.Input((6, 6, 3)), layers.Flatten(), layers.Dense(1)])
        model.compile("sgd", "mse")
        make = ImageDataGenerator(rescale=1 / 255, horizontal_flip=True)
        history = model.fit(make.flow(self.x, self.y, batch_size=2), epochs=2, verbose=0)
        assert len(history.history["loss"]) == 2

    def test_fit_to_augmented_images_repeats_with_a_seed(self):
        means = []
        for _ in range(2):
            make = ImageDataGenerator(featurewise_center=True, rescale=0.5, horizontal_flip=True, rotation_range=30)
            make.fit(self.x, augment=True, rounds=2, seed=3)
            means.append(make.mean)
        np.testing.assert_array_equal(*means)

    @pytest.mark.parametrize(
        "call, message",
        [
            (lambda x, y: ImageDataGenerator().flow(x[0]), r"rank 4, \(samples, rows, columns, channels\), received"),
            (lambda x, y: ImageDataGenerator().flow(x, y[1:]), "`x` .* and `y` .* should have the same length"),
            (lambda x, y: ImageDataGenerator().flow((x, x[1:])), r"the same length, received \[\d, \d\] rows"),
            (lambda x, y: ImageDataGenerator().fit(x[0]), "should have rank 4. Got array with shape"),
            (lambda x, y: whitening().fit(np.full((2, 3, 3, 1), np.nan)), "svd: the matrix .* has NaN or infinity"),
            (lambda x, y: ImageDataGenerator(zoom_range=(1, 2, 3)), "should be a tuple or list of two floats"),
            (lambda x, y: ImageDataGenerator(data_format="last"), "should be 'channels_last' or 'channels_first'"),
            (lambda x, y: ImageDataGenerator(validation_split=2), "strictly between 0 and 1"),
            (lambda x, y: turned(x, order=3), "order must be 0"),
            (lambda x, y: turned(x, fill_mode="mirror"), "fill_mode must be one of"),
            (lambda x, y: turned(x, col_axis=0), "channels first or last"),
        ],
    )
    def test_mistakes_are_explained(self, call, message):
        with pytest.raises(ValueError, match=message):
            call(self.x, self.y)

    @pytest.mark.parametrize(
        "call, message",
        [
            (lambda x: whitening(featurewise_std_normalization=True), "replaces featurewise_std_normalization"),
            (lambda x: last().fit(np.zeros((2, 3, 3, 2))), "1, 3 or 4 channels; these, of shape .*, have 2"),
            (lambda x: ImageDataGenerator(samplewise_std_normalization=True), "implies samplewise_center"),
            (lambda x: next(ImageDataGenerator(True).flow(x)), "featurewise_center has no effect before `fit"),
            (lambda x: last().flow(np.zeros((2, 3, 3, 6))), "these, of shape .*, have 6 with data_format"),
        ],
    )
    def test_warnings(self, call, message):
        with pytest.warns(UserWarning, match=message):
            call(self.x)


last = functools.partial(ImageDataGenerator, data_format="channels_last")
whitening = functools.partial(ImageDataGenerator, True, zca_whitening=True)


def turned(x, **options):
    return image.apply_affine_transform(x[0], 3, **{"row_axis": 0, "col_axis": 1, "channel_axis": 2, **options})


read_folder = functools.partial(utils.image_dataset_from_directory, verbose=False)


@pytest.fixture
def folder(tmp_path):
    """Two classes of png files: cats are dark, dogs are bright."""
    pytest.importorskip("PIL")
    for name, level, count in (("cats", 10, 3), ("dogs", 200, 2)):
        (tmp_path / name).mkdir()
        for i in range(count):
            utils.save_img(tmp_path / name / f"{i}.png", np.full((4, 6, 3), level + i, "uint8"), scale=False)
    (tmp_path / "cats" / "notes.txt").write_text("no image")
    return tmp_path


# what image_dataset_from_directory of Keras 3.15 gives: the gray values, and the sum of the RGBA numbers times 1, 2, 3, ...
_GRAY = [67, 137, 130, 123, 116, 109, 102, 95]
GRAY = {
    "colours": (_GRAY, 87448),
    "colours with gamma": ([87, 161, 155, 150, 144, 138, 133, 127], 87448),
    "palette": (_GRAY, None),  # in Keras 15 of 255 is opaque, because a colour number has 4 bits
    "opacity": (_GRAY, 81864),
    "16 bits": ([0, 250, 243, 236, 229, 222, 215, 208], 120930),
}


class TestFiles:
    def test_round_trip(self, tmp_path):
        pytest.importorskip("PIL")
        for channels in (1, 3, 4):
            x = images((4, 5, channels))[0]
            utils.save_img(tmp_path / "x.png", x, scale=False)
            mode = {1: "grayscale", 3: "rgb", 4: "rgba"}[channels]
            with utils.load_img(tmp_path / "x.png", color_mode=mode) as loaded:
                np.testing.assert_array_equal(utils.img_to_array(loaded), x)
        scaled = np.asarray(utils.array_to_img(x / 7))
        assert scaled.min() == 0 and scaled.max() == 255
        with pytest.warns(UserWarning, match="no transparency"):
            utils.save_img(tmp_path / "x.jpg", x)

    @pytest.mark.parametrize("name", GRAY)
    def test_data_sets_have_the_pixels_of_tensorflow(self, tmp_path, name):
        pillow, png = pytest.importorskip("PIL.Image"), pytest.importorskip("PIL.PngImagePlugin")
        colors = (np.arange(24).reshape(2, 4, 3) * 83 % 256).astype(np.uint8)
        gamma, picture = png.PngInfo(), pillow.fromarray(colors)
        gamma.add(b"gAMA", (45455).to_bytes(4, "big"))
        file = {
            "colours": picture,
            "colours with gamma": picture,
            "palette": picture.quantize(8),
            "opacity": pillow.fromarray(np.concatenate([colors, colors[..., :1]], -1)),
            "16 bits": pillow.fromarray(colors[..., 0].astype(np.uint16) * 257 + 100),
        }[name]
        file.save(tmp_path / "x.png", pnginfo=gamma if name == "colours with gamma" else None)
        gray, weighted_sum = GRAY[name]
        for mode, expected in (("grayscale", gray), ("rgba", weighted_sum)):
            (found,) = read_folder(tmp_path, None, None, color_mode=mode, image_size=(2, 4))[0]
            found = found.ravel()
            if mode == "grayscale":
                assert found.tolist() == expected
            elif expected is not None:
                assert found @ np.arange(1, 33) == expected
        grains = read_folder(tmp_path, None, None, format="grain", image_size=(2, 4))
        np.testing.assert_array_equal(grains[0][0], utils.img_to_array(utils.load_img(tmp_path / "x.png")))

    def test_channels_first_and_sizes(self, folder):
        loaded = utils.load_img(folder / "dogs" / "0.png", target_size=(2, 3), interpolation="bilinear")
        assert utils.img_to_array(loaded, "channels_first").shape == (3, 2, 3)
        loaded = utils.load_img(folder / "dogs" / "0.png", target_size=(2, 2), keep_aspect_ratio=True)
        assert loaded.size == (2, 2)
        assert utils.array_to_img(np.zeros((3, 4, 5)), "channels_first").size == (5, 4)

    @pytest.mark.parametrize(
        "call, message",
        [
            (lambda path: utils.load_img(path, color_mode="bgr"), "color_mode must be one of"),
            (lambda path: utils.load_img(path, target_size=(2, 2), interpolation="magic"), "interpolation must be"),
            (lambda path: utils.array_to_img(np.zeros((2, 2, 2))), "1, 3 or 4 channels, received 2"),
            (
                lambda path: utils.array_to_img(np.zeros((2, 2))),
                r"three axes \(a single image\), received shape \(2, 2\)",
            ),
            (lambda path: utils.img_to_array(np.zeros(3)), "Unsupported image shape"),
        ],
    )
    def test_mistakes_are_explained(self, folder, call, message):
        with pytest.raises(ValueError, match=message):
            call(folder / "dogs" / "0.png")

    def test_flow_from_directory(self, folder, tmp_path, capsys):
        make = ImageDataGenerator(rescale=1 / 100, validation_split=0.4)
        batches = make.flow_from_directory(folder, (2, 2), batch_size=3, shuffle=False)
        assert "Found 5 images belonging to 2 classes." in capsys.readouterr().out
        assert batches.class_indices == {"cats": 0, "dogs": 1} and batches.classes.tolist() == [0, 0, 0, 1, 1]
        x, y = batches[1]
        assert x.shape == (2, 2, 2, 3) and y.tolist() == [[0, 1], [0, 1]]
        np.testing.assert_allclose(x[0], 2.0)
        for mode in ("sparse", "binary"):
            _, y = make.flow_from_directory(folder, (2, 2), class_mode=mode, batch_size=3, shuffle=False)[0]
            assert y.tolist() == [0, 0, 0]
        only = make.flow_from_directory(folder, (2, 2), class_mode=None, subset="training", color_mode="grayscale")
        assert only[0].shape == (4, 2, 2, 1)
        x, y = make.flow_from_directory(folder, (2, 2), class_mode="input")[0]
        np.testing.assert_array_equal(x, y)
        saved = tmp_path / "saved"
        saved.mkdir()
        make.flow_from_directory(folder, (2, 2), classes=["dogs"], save_to_dir=str(saved), save_prefix="a")[0]
        assert len(list(saved.glob("a_*.png"))) == 2
        with pytest.raises(ValueError, match="Invalid class_mode: 'raw'"):
            make.flow_from_directory(folder, class_mode="raw")

    def test_flow_from_dataframe(self, folder):
        pandas = pytest.importorskip("pandas")
        table = pandas.DataFrame(
            {"filename": ["cats/0.png", "dogs/1.png", "none.png"], "class": ["c", "d", "d"], "a": [1, 2, 3], "b": 4}
        )
        make = ImageDataGenerator()
        with pytest.warns(UserWarning, match="1 of the files named in 'filename' are not images"):
            batches = make.flow_from_dataframe(table, str(folder), target_size=(2, 2), shuffle=False)
        assert batches[0][1].tolist() == [[1, 0], [0, 1]] and batches.filenames == ["cats/0.png", "dogs/1.png"]
        table = table[:2]
        raw = make.flow_from_dataframe(table, str(folder), y_col="a", class_mode="raw", shuffle=False, weight_col="b")
        assert raw[0][1].tolist() == [1, 2] and raw[0][2].tolist() == [4, 4]
        y = {"y_col": ["a", "b"], "class_mode": "multi_output"}
        several = make.flow_from_dataframe(table, str(folder), **y, shuffle=False)
        assert [each.tolist() for each in several[0][1]] == [[1, 2], [4, 4]]

    def test_several_classes_of_one_image(self, folder):
        pandas = pytest.importorskip("pandas")
        table = pandas.DataFrame(
            {"filename": ["cats/0.png", "dogs/0.png", "dogs/1.png"], "class": [["b", "a"], "c", ["c", "x"]]},
            index=[7, 8, 9],
        )
        make = ImageDataGenerator()
        batches = make.flow_from_dataframe(table, str(folder), "filename", "class", None, (2, 2), shuffle=False)
        assert batches[0][1].tolist() == [[1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 1, 1]]
        assert batches.classes == [[1, 0], 2, [2, 3]] and list(batches.class_indices) == ["a", "b", "c", "x"]
        chosen = make.flow_from_dataframe(table, str(folder), classes=["x", "b"], target_size=(2, 2), shuffle=False)
        assert chosen[0][1].tolist() == [[0, 1], [1, 0]] and chosen.filenames == ["cats/0.png", "dogs/1.png"]

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            ({"y_col": "number"}, TypeError, "'number' must be strings, received 1"),
            ({"y_col": "number", "class_mode": "sparse"}, TypeError, "'number' must be strings, received 1"),
            ({"y_col": "gaps"}, TypeError, "'gaps' must be strings, received nan"),
            ({"x_col": "number"}, TypeError, "'number' must be strings, received 1"),
            ({"class_mode": "binary"}, ValueError, r"needs two classes, received \['c'\]"),
            ({"class_mode": "multi_output"}, TypeError, "needs a list of columns as y_col, received 'class'"),
            ({"weight_col": "class"}, TypeError, "weight_col='class' must hold numbers"),
            ({"colour": 1}, TypeError, "unexpected keyword argument 'colour'"),
        ],
    )
    def test_wrong_columns(self, folder, arguments, error, message):
        pandas = pytest.importorskip("pandas")
        table = pandas.DataFrame(
            {"filename": ["cats/0.png", "dogs/0.png"], "class": "c", "number": [1, 2], "gaps": ["a", float("nan")]}
        )
        with pytest.raises(error, match=message):
            ImageDataGenerator().flow_from_dataframe(table, str(folder), **arguments)

    def test_arguments_by_place_and_whole_numbers(self, folder):
        make = ImageDataGenerator(dtype="uint8", rescale=1 / 2)
        assert make.flow_from_directory(folder, (2, 2), "grayscale", shuffle=False)[0][0].ravel()[0] == 5
        with pytest.raises(TypeError, match="expected each of these once: target_size"):
            make.flow_from_directory(folder, (2, 2), target_size=(2, 2))
        with pytest.raises(TypeError, match="expected each of these once: target_size"):
            make.flow_from_directory(folder, *[None] * 20)

    def test_image_dataset_from_directory(self, folder):
        data = read_folder(folder, image_size=(2, 2), batch_size=2, shuffle=False)
        assert data.class_names == ["cats", "dogs"] and len(data) == 3
        assert [y.tolist() for _, y in data] == [[0, 0], [0, 1], [1]]
        train, validation = read_folder(
            folder, label_mode="binary", image_size=2, validation_split=0.4, subset="both", seed=1
        )
        assert train[0][1].shape == (3, 1) and validation[0][0].shape == (2, 2, 2, 3)
        assert not set(train.file_paths) & set(validation.file_paths)
        categorical = read_folder(folder, label_mode="categorical", batch_size=None)
        assert sorted(y.tolist() for _, y in categorical) == [[0, 1]] * 2 + [[1, 0]] * 3
        listed = read_folder(folder, labels=[4, 3, 2, 1, 0], shuffle=False)
        assert listed[0][1].tolist() == [4, 3, 2, 1, 0]
        assert isinstance(read_folder(folder, labels=None)[0], np.ndarray)

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"label_mode": "one"}, "label_mode must be"),
            ({"labels": [1]}, "for each of the 5 files, received 1"),
            ({"labels": "guess"}, "labels must be 'inferred'"),
            ({"class_names": ["cats", "birds"]}, r"among the subfolders, \['cats', 'dogs'\], received"),
            ({"class_names": ["cats"], "labels": [0, 1, 0, 1, 0]}, "class_names are the names of subfolders"),
            ({"label_mode": "categorical", "labels": [1, 2, 1, 2, 1]}, "labels from 0 to 1, received 1, 2"),
            ({"label_mode": "binary", "labels": [0, 1, 2, 1, 0]}, "label_mode='binary' needs two classes"),
            ({"interpolation": "lanczos"}, "interpolation one of nearest, bilinear"),
            ({"image_size": (3, 3, 3)}, "image_size .height, width."),
            ({"batch_size": 0}, "batch_size must be a positive number"),
            ({"validation_split": 0.5}, "validation_split and subset .* belong together"),
            ({"validation_split": 1.5, "subset": "both"}, "between 0 and 1"),
            ({"validation_split": 0.5, "subset": "training"}, "with shuffle and a subset give a seed"),
            ({"validation_split": 0.1, "subset": "validation", "seed": 1}, "leaves none for validation"),
        ],
    )
    def test_wrong_arguments_of_image_dataset(self, folder, arguments, message):
        with pytest.raises(ValueError, match=message):
            read_folder(folder, **arguments)

    def test_hidden_folders_chosen_classes_and_folders_without_classes(self, folder):
        (folder / ".thumbnails").mkdir()
        utils.save_img(folder / ".thumbnails" / "0.png", np.zeros((4, 6, 3)))
        read = functools.partial(read_folder, folder, image_size=(4, 6), shuffle=False)
        assert read().class_names == ["cats", "dogs"]
        chosen = read(class_names=["dogs", "cats"])
        assert chosen[0][1].tolist() == [0, 0, 1, 1, 1] and chosen[0][0][:, 0, 0, 0].tolist() == [200, 201, 10, 11, 12]
        assert len(read(class_names=["dogs"])[0][1]) == 2
        flat = read_folder(folder / "cats", label_mode=None, batch_size=None)
        assert len(flat) == 3 and flat.class_names is None

    @pytest.mark.parametrize("ways", [{}, {"crop_to_aspect_ratio": True}, {"pad_to_aspect_ratio": True}])
    @pytest.mark.parametrize("form", ["channels_first", "channels_last"])
    def test_images_are_resized_as_keras_does(self, folder, ways, form):
        """`ops.image.resize` does it and is tested against Keras's numbers; pillow blends more pixels where an image shrinks."""
        x = images((9, 7, 3))[0]
        (folder / "one" / "class").mkdir(parents=True)
        utils.save_img(folder / "one" / "class" / "x.png", x, scale=False)
        given = x.transpose(2, 0, 1) if form == "channels_first" else x
        for interpolation in ("nearest", "bilinear", "bicubic"):
            more = {"interpolation": interpolation, "data_format": form, **ways}
            data = utils.image_dataset_from_directory(folder / "one", image_size=(4, 5), batch_size=None, **more)
            np.testing.assert_array_equal(data[0][0], ops.image.resize(given, (4, 5), **more))

    def test_errors_say_which_file(self, folder):
        utils.save_img(folder / "dogs" / "1.png", images((40, 40, 3))[0])
        good = (folder / "dogs" / "1.png").read_bytes()
        for content, error in ((b"no image", "cannot identify"), (good[: len(good) // 2], "truncated")):
            (folder / "dogs" / "1.png").write_bytes(content)
            with pytest.raises(OSError, match=error) as caught:
                read_folder(folder, shuffle=False)[0]
            assert caught.value.__notes__ == [f"while reading {folder / 'dogs' / '1.png'}"]

    def test_texts_and_sounds(self, tmp_path):
        import wave

        for name, text in (("a", "one two"), ("b", "three")):
            (tmp_path / name).mkdir()
            (tmp_path / name / "x.txt").write_text(text, encoding="utf-8")
            with wave.open(str(tmp_path / name / "x.wav"), "wb") as file:
                file.setparams((1, 2, 100, 0, "NONE", ""))
                file.writeframes(np.array([0, 16384, -32768][: len(text) - 4], "<i2").tobytes())
        x, y = utils.text_dataset_from_directory(tmp_path, shuffle=False, max_length=4, verbose=False)[0]
        assert x.tolist() == ["one ", "thre"] and y.tolist() == [0, 1]
        x, y = utils.audio_dataset_from_directory(tmp_path, shuffle=False, verbose=False)[0]
        assert x[:, :, 0].tolist() == [[0, 0.5, -1], [0, 0, 0]]
        x, y = utils.audio_dataset_from_directory(tmp_path, output_sequence_length=2, shuffle=False, verbose=False)[0]
        assert x.shape == (2, 2, 1)
        with pytest.raises(ValueError, match="ragged tensors are not supported"):
            utils.audio_dataset_from_directory(tmp_path, ragged=True)
        with wave.open(str(tmp_path / "b" / "x.wav"), "wb") as file:
            file.setparams((2, 2, 100, 0, "NONE", ""))
            file.writeframes(bytes(8))
        with pytest.raises(ValueError, match=r"different numbers of channels: \[1, 2\]"):
            utils.audio_dataset_from_directory(tmp_path, shuffle=False, verbose=False)[0]
        (tmp_path / "a" / "x.txt").write_bytes("\u00e4".encode("latin-1"))
        with pytest.raises(UnicodeDecodeError) as caught:
            utils.text_dataset_from_directory(tmp_path, shuffle=False, verbose=False)[0]
        assert caught.value.__notes__ == [f"while reading {tmp_path / 'a' / 'x.txt'}"]


def test_files_need_pillow_and_say_so(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"pip install 'nbkeras\[images\]'"):
        utils.array_to_img(np.zeros((2, 2, 3)))
    assert ImageDataGenerator(brightness_range=(0.5, 0.6)).flow(images())[0].shape == (4, 6, 6, 3)


def test_names_are_where_keras_has_them():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert nbkeras.preprocessing.image.img_to_array is utils.img_to_array
    assert config.image_data_format() in ("channels_last", "channels_first")


@pytest.mark.parametrize("size", [(5, 5), (9, 4), (4, 9)])
def test_smart_resize_cuts_out_the_middle(size):
    """Rows that are constant along columns stay so, and a batch is its images."""
    x = np.broadcast_to(np.arange(8.0, dtype="float32")[:, None, None], (8, 10, 3)).copy()
    y = image.smart_resize(x, size)
    assert isinstance(y, np.ndarray) and y.shape == (*size, 3)
    np.testing.assert_allclose(y, y[:, :1, :1] * np.ones_like(y), rtol=1e-6)
    np.testing.assert_allclose(y.mean(), 3.5, rtol=1e-5)
    np.testing.assert_allclose(image.smart_resize(np.stack([x, 2 * x]), size)[1], 2 * y, rtol=1e-6)
