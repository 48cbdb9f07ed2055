"""The modules of Keras 2 and 3, with the nbkeras modules that provide each one's names; the first module with a name wins.

Keras 2 modules that are one module here all have the same names: `keras.layers.core` has every layer.
"""

_LAYERS = (
    "advanced_activations convolutional convolutional_recurrent core cudnn_recurrent embeddings local merge noise "
    "normalization pooling recurrent wrappers"
)
_ENGINE = "base_layer input_layer network saving sequential topology training"
_UTILS = "conv_utils data_utils generic_utils io_utils layer_utils np_utils vis_utils"
_OLD_LAYERS = ("nbkeras.layers", "nbkeras.compat.old_layers")
_OLD_UTILS = (
    "nbkeras.compat.generic_utils",
    "nbkeras.compat.conv_utils",
    "nbkeras.compat.layer_utils",
    "nbkeras.compat.hdf5",
    "nbkeras.training.summary",
)
_OLD_MODELS = ("nbkeras.models", "nbkeras.layers", "nbkeras.compat.model_yaml")
_OLD_ENGINE = (*_OLD_MODELS, "nbkeras.compat.saving", "nbkeras.utils")
_DATASETS = "boston_housing california_housing cifar cifar10 cifar100 fashion_mnist imdb mnist reuters"
_SAME = (
    "activations callbacks config constraints datasets distribution dtype_policies export initializers losses metrics "
    "mixed_precision ops ops.image ops.linalg optimizers optimizers.schedules quantizers random regularizers tree"
)

SHOWN: dict[str, tuple[str, ...]] = {
    "": ("nbkeras.compat.root", "nbkeras"),
    **{name: (f"nbkeras.{name}",) for name in _SAME.split()},
    "backend": ("nbkeras.compat.backend", "nbkeras.backend"),
    "layers": _OLD_LAYERS,
    "models": _OLD_MODELS,
    "utils": ("nbkeras.utils", *_OLD_UTILS),
    "utils.losses_utils": ("nbkeras.compat.constants",),
    "utils.metrics_utils": ("nbkeras.compat.constants",),
    "engine": _OLD_ENGINE,
    "legacy": (),
    "legacy.interfaces": ("nbkeras.compat.interfaces",),
    "objectives": ("nbkeras.losses",),
    "ops.nn": ("nbkeras.ops",),
    "ops.numpy": ("nbkeras.ops",),
    "saving": ("nbkeras.saving", "nbkeras.models", "nbkeras.utils"),
    "preprocessing": ("nbkeras.preprocessing",),
    **{f"preprocessing.{name}": (f"nbkeras.preprocessing.{name}",) for name in ("sequence", "text")},
    "preprocessing.image": ("nbkeras.compat.images", "nbkeras.preprocessing.image"),
    "wrappers": ("nbkeras.wrappers",),
    "wrappers.scikit_learn": ("nbkeras.compat.scikit_learn",),
    **{f"layers.{name}": _OLD_LAYERS for name in _LAYERS.split()},
    **{f"engine.{name}": (*_OLD_ENGINE, "nbkeras.building.graph") for name in _ENGINE.split()},
    # modules of tf.keras, 2019 to 2023
    **{name: _OLD_LAYERS for name in ("layers.experimental", "layers.experimental.preprocessing")},
    **{name: ("nbkeras.optimizers",) for name in ("optimizers.experimental", "optimizers.legacy")},
    "engine.training_utils": ("nbkeras.compat.training_utils", "nbkeras.compat.generic_utils"),
    **{f"utils.{name}": ("nbkeras.utils", *_OLD_UTILS) for name in _UTILS.split()},
    **{f"datasets.{name}": (f"nbkeras.datasets.{name}",) for name in _DATASETS.split()},
}

# Module -> older name -> its name in the nbkeras modules.
RENAMED: dict[str, dict[str, str]] = {
    "constraints": {"maxnorm": "max_norm", "nonneg": "non_neg", "unitnorm": "unit_norm"},
    "engine.network": {"Network": "Model"},
    "layers.convolutional": {"Deconv2D": "Conv2DTranspose", "Deconv3D": "Conv3DTranspose"},
    "optimizers": {name.lower(): name for name in ("Adadelta", "Adagrad", "Adam", "Adamax", "Nadam", "RMSprop", "SGD")},
}
