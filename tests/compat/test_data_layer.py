"""The internal base classes of Keras 3's layers for data pipelines and images: their functions are those of `keras.ops`."""

import numpy as np
import pytest

pytestmark = pytest.mark.usefixtures("as_keras_3")


def test_a_layer_that_computes_with_its_backend():
    import keras
    from keras.src.layers.preprocessing.data_layer import DataLayer

    class Mixed(DataLayer):
        def __init__(self, seed=None, **kwargs):
            super().__init__(**kwargs)
            if seed is not None:
                self.seed, self.generator = seed, keras.random.SeedGenerator(seed)

        def call(self, inputs):
            seed = self._get_seed_generator(self.backend._backend)
            draws = self.backend.random.uniform((self.backend.shape(inputs)[0],), seed=seed)
            ones = self.backend.convert_to_tensor(inputs) + self.convert_weight(0.0)
            return self.backend.numpy.where(draws[:, None] > 0.5, self.backend.core.cast(ones, "float32"), 0.0)

    rows = np.asarray(Mixed(3)(np.ones((64, 2)))).sum(1)
    assert set(rows) == {0.0, 2.0} and Mixed.backend.name == "numpy"
    assert keras.Sequential([keras.Input((2,)), Mixed(3)]).predict(np.ones((4, 2)), verbose=0).shape == (4, 2)
    with pytest.raises(ValueError, match=r"Mixed must set self.seed and self.generator in __init__ to draw numbers"):
        Mixed()(np.ones((2, 2)))


def test_a_layer_of_images_that_computes_with_its_backend():
    from keras.src.layers.preprocessing.image_preprocessing.base_image_preprocessing_layer import (
        BaseImagePreprocessingLayer,
    )
    from keras.src.layers.preprocessing.image_preprocessing.bounding_boxes.converters import convert_format
    from keras.utils import bounding_boxes
    from keras.visualization import draw_bounding_boxes

    class Darker(BaseImagePreprocessingLayer):
        def transform_images(self, images, transformation, training=True):
            return self.backend.numpy.multiply(self.backend.cast(images, self.compute_dtype), self.factor[1])

    assert convert_format is bounding_boxes.convert_format and callable(draw_bounding_boxes)
    np.testing.assert_allclose(Darker(0.25)(np.full((2, 3, 3, 1), 4, "uint8")), 1.0)
