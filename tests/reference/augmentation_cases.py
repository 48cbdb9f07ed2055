"""Images and arguments that make_augmentation.py gives to Keras and test_images.py to nbkeras."""

import numpy as np


def images(shape=(6, 6, 3), count=4):
    """Float32 images with whole values from 0 to 255."""
    return np.random.default_rng(5).integers(0, 256, (count, *shape)).astype("float32")


LAST = {"row_axis": 0, "col_axis": 1, "channel_axis": 2}
AFFINE = {
    "all": ((6, 6, 3), {"theta": 20, "tx": 1, "ty": -0.7, "shear": 8, "zx": 0.8, "zy": 1.1, **LAST}),
    "first": ((3, 6, 6), {"theta": -35, "tx": 0.5, "shear": 3}),
    "constant": ((6, 6, 1), {"theta": 45, "fill_mode": "constant", "cval": 7.0, **LAST}),
    "reflect": ((5, 5, 1), {"tx": 6.3, "ty": -9.1, "theta": 10, "fill_mode": "reflect", **LAST}),
    "wrap": ((5, 5, 1), {"tx": 6.3, "ty": -9.1, "fill_mode": "wrap", **LAST}),
    "pixels": ((6, 6, 3), {"theta": 20, "ty": 1.2, "zx": 0.5, "order": 0, **LAST}),
    "pixels reflect": ((5, 5, 1), {"tx": 6.3, "ty": -9.1, "fill_mode": "reflect", "order": 0, **LAST}),
    "pixels wrap": ((5, 5, 1), {"tx": 6.3, "ty": -9.1, "fill_mode": "wrap", "order": 0, **LAST}),
    "pixels constant": ((5, 5, 1), {"tx": 1.3, "fill_mode": "constant", "cval": -1.0, "order": 0, **LAST}),
}
# Square images: Keras turns others about a wrong middle. No shifts: Keras exchanges rows and columns there.
GENERATORS = {
    "plain": {},
    "moves": {
        "rotation_range": 30,
        "shear_range": 10,
        "zoom_range": 0.3,
        "horizontal_flip": True,
        "vertical_flip": True,
    },
    "colours": {"brightness_range": (0.5, 1.7), "channel_shift_range": 40, "rescale": 1 / 255},
    "featurewise": {"featurewise_center": True, "featurewise_std_normalization": True},
    "samplewise": {"samplewise_center": True, "samplewise_std_normalization": True},
    "whitening": {"featurewise_center": True, "zca_whitening": True, "zca_epsilon": 0.1},
    "function": {"preprocessing_function": lambda x: x[::-1] - 1, "zoom_range": [0.5, 0.9], "interpolation_order": 0},
}


def flow_numbers(generator, arguments):
    """The images of two epochs of `flow`, after `fit`."""
    made = generator(**arguments)
    made.fit(images(count=40)[:, :3, :3] if "zca_whitening" in arguments else images())
    x = images(count=40)[:5, :3, :3] if "zca_whitening" in arguments else images()
    batches = made.flow(x, np.arange(len(x)), batch_size=3, seed=11)
    return np.concatenate([next(batches)[0] for _ in range(4)])
