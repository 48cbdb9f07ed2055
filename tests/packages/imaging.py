"""Models of CSBDeep, N2V and StarDist with weights by a formula, and what they predict: by nbkeras and by tf_keras."""

import tempfile

import numpy as np


def _filled(model):
    """Set the weights by a formula, small enough that activations stay near 1."""
    values = []
    for number, weight in enumerate(model.get_weights()):
        waves = np.sin(np.arange(weight.size) * 0.7 + number).reshape(weight.shape)
        fan_in = max(1, int(np.prod(weight.shape[:-1])))
        values.append((waves * (2 / fan_in) ** 0.5 + 0.01).astype("float32"))
    model.set_weights([np.abs(v) if v.ndim == 1 else v for v in values])


def _image(*shape):
    return (np.sin(np.arange(np.prod(shape)) * 0.37).reshape(shape) + 1).astype("float32") / 2


def care():
    from csbdeep.models import CARE, Config

    with tempfile.TemporaryDirectory() as folder:
        model = CARE(Config("YX", unet_n_depth=2, unet_n_first=8), "care", folder)
        _filled(model.keras_model)
        return model.predict(_image(32, 40), "YX", normalizer=None)


def projection():
    from csbdeep.models import ProjectionCARE, ProjectionConfig

    with tempfile.TemporaryDirectory() as folder:
        model = ProjectionCARE(ProjectionConfig("ZYX", unet_n_depth=2, unet_n_first=8), "projection", folder)
        _filled(model.keras_model)
        return model.predict(_image(4, 32, 32), "ZYX", normalizer=None)


def n2v():
    from n2v.models import N2V, N2VConfig

    with tempfile.TemporaryDirectory() as folder:
        patches = _image(4, 32, 32, 1)
        model = N2V(N2VConfig(patches, unet_n_depth=2, unet_n_first=8, unet_kern_size=3), "n2v", folder)
        _filled(model.keras_model)
        return model.predict(_image(32, 48), axes="YX")


def stardist():
    from stardist.models import Config2D, StarDist2D

    with tempfile.TemporaryDirectory() as folder:
        model = StarDist2D(Config2D(n_rays=8, grid=(2, 2), unet_n_filter_base=8, unet_n_depth=2), "stardist", folder)
        _filled(model.keras_model)
        probabilities, distances = model.keras_model.predict(_image(1, 32, 48, 1), verbose=0)
        return np.concatenate([probabilities, distances], axis=-1)


MODELS = {"care": care, "projection": projection, "n2v": n2v, "stardist": stardist}
