"""Make tests/reference/augmenting.npz: random changes of images with boxes, masks and labels, as Keras 3 draws and makes them.

KERAS_BACKEND=jax python scripts/make_images_references.py (needs keras 3, jax, opencv-python-headless)

For each case of tests/reference/augmenting_cases.py: the transformation that `get_random_transformation` draws, as JSON with
arrays by place, and the results of `transform_images`, `transform_labels`, `transform_bounding_boxes` and
`transform_segmentation_masks`. Then the results of tests/reference/box_cases.py: boxes, and pictures with boxes and masks.
"""

import json
import pathlib
import random
import sys

import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "tests" / "reference"
KINDS = ("images", "labels", "bounding_boxes", "segmentation_masks")


def stored(value, arrays: dict):
    """A value as JSON; the elements of its arrays go to `arrays`, by dtype."""
    if isinstance(value, dict):
        return {key: stored(each, arrays) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [stored(each, arrays) for each in value]
    if value is None or isinstance(value, str | int | float):
        return value
    array = np.asarray(value)
    flat = arrays.setdefault(array.dtype.name, [])  # one entry of the file for each dtype: entries have long headers
    start = sum(part.size for part in flat)
    flat.append(array.ravel())
    return {"dtype": array.dtype.name, "start": start, "shape": array.shape}


def transformed(name: str, arrays: dict):
    """The JSON of one case."""
    import augmenting_cases
    import keras

    kind, arguments, box_format, (height, width) = augmenting_cases.CASES[name]
    form = {} if box_format is None else {"bounding_box_format": box_format}
    random.seed(len(name))
    layer = getattr(keras.layers, kind)(**arguments, **form, **({} if kind in WITHOUT_SEED else {"seed": len(name)}))
    data = augmenting_cases.data_of(name)
    tensors = {key: keras.tree.map_structure(keras.ops.convert_to_tensor, value) for key, value in data.items()}
    if box_format is not None:
        made = keras.utils.bounding_boxes.convert_format(tensors["bounding_boxes"], "xyxy", box_format, height, width)
        tensors["bounding_boxes"] = made
        data["bounding_boxes"] = {key: np.asarray(each) for key, each in made.items()}
    drawn = layer.get_random_transformation(tensors["images"] if kind == "RandomGrayscale" else tensors)
    written = {"transformation": stored(drawn, arrays)}
    for key in KINDS:
        if key not in tensors:
            continue
        try:
            given = {**tensors[key]} if isinstance(tensors[key], dict) else tensors[key]
            found = getattr(layer, f"transform_{key}")(given, transformation=drawn, training=True)
        except Exception as error:
            print(name, key, repr(error)[:150])
            continue
        written[key] = stored(found, arrays)
        written.setdefault("dtypes", {})[key] = keras.tree.map_structure(lambda x: str(np.asarray(x).dtype), found)
    return written


WITHOUT_SEED = (
    "CenterCrop",
    "Resizing",
    "AutoContrast",
    "Equalization",
    "MaxNumBoundingBoxes",
    "ContrastLimitedAdaptiveHistogramEqualization",
)


def main() -> None:
    sys.path.insert(0, str(FOLDER))
    import augmenting_cases
    import box_cases
    import keras

    arrays: dict[str, list] = {}
    written = {name: transformed(name, arrays) for name in augmenting_cases.CASES}
    written["boxes"] = stored(box_cases.of_boxes(keras), arrays)
    written["pictures"] = stored(box_cases.of_pictures(keras), arrays)
    flat = {dtype: np.concatenate(parts) for dtype, parts in arrays.items()}
    text = np.frombuffer(json.dumps(written).encode(), np.uint8)
    np.savez_compressed(FOLDER / "augmenting.npz", json=text, **flat)
    print(len(written), "cases,", (FOLDER / "augmenting.npz").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
