"""Writes augmentation.npz: what Keras's ImageDataGenerator makes of a few images. Run with Keras 3 and scipy installed:

KERAS_BACKEND=jax python tests/reference/make_augmentation.py
"""

from arrays import store
from augmentation_cases import AFFINE, GENERATORS, flow_numbers, images

if __name__ == "__main__":
    from keras.src.legacy.preprocessing import image

    found = {}
    for name, (shape, arguments) in AFFINE.items():
        found[f"affine {name}"] = image.apply_affine_transform(images(shape)[0], **arguments)
    for name, arguments in GENERATORS.items():
        found[f"flow {name}"] = flow_numbers(image.ImageDataGenerator, arguments)
    store("augmentation.npz", found)
