"""The modules of Keras 2 and of Keras 3, and the modules of nbkeras that have each one's names."""

import importlib.util
import pkgutil
import re
from collections.abc import Iterable

# Keras 2 modules that are one module here all have the same names: `keras.layers.core` has every layer.
_LAYERS = (
    "advanced_activations convolutional convolutional_recurrent core cudnn_recurrent embeddings local merge noise "
    "normalization pooling recurrent wrappers"
)
_ENGINE = "base_layer input_layer network saving sequential topology training"
_UTILS = "conv_utils data_utils generic_utils io_utils layer_utils np_utils vis_utils"
_OLD, _INTERNAL, _NO_GRAPH = "nbkeras.compat.keras2", "nbkeras.compat.keras3", "nbkeras.compat.no_graph"
_OLD_LAYERS = ("nbkeras.layers", f"{_OLD}.old_layers")
_OLD_UTILS = (
    f"{_OLD}.generic_utils",
    f"{_OLD}.conv_utils",
    f"{_OLD}.layer_utils",
    f"{_OLD}.hdf5",
    "nbkeras.visualization.summary",
)
_OLD_MODELS = ("nbkeras.models", "nbkeras.layers", f"{_OLD}.model_yaml")
_OLD_ENGINE = (*_OLD_MODELS, f"{_OLD}.saving", "nbkeras.utils")
_NETWORKS = (
    "convnext densenet efficientnet efficientnet_v2 imagenet_utils inception_resnet_v2 inception_v3 mobilenet mobilenet_v2 "
    "mobilenet_v3 nasnet resnet resnet50 resnet_v2 vgg16 vgg19 xception"
)
_DATASETS = "boston_housing california_housing cifar cifar10 cifar100 fashion_mnist imdb mnist reuters"


def _same(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Modules with the names of nbkeras's module of the same name."""
    return {name: (f"nbkeras.{name}",) for name in names}


# The modules of Keras 3 are in both modes, and so are the names that only Keras 3 has: a script for Keras 2 cannot notice them,
# and scripts of tf.keras use some. Keras 2 has more names in some of these modules.
_BOTH: dict[str, tuple[str, ...]] = {
    **_same(
        "activations applications callbacks config constraints datasets distillation distribution dtype_policies export "
        "initializers layers losses metrics mixed_precision models ops ops.image ops.linalg optimizers optimizers.schedules "
        "preprocessing preprocessing.image preprocessing.sequence quantizers random regularizers tree utils "
        "utils.bounding_boxes visualization wrappers".split()
    ),
    **_same(f"datasets.{name}" for name in _DATASETS.split()),
    **_same(f"applications.{name}" for name in _NETWORKS.split()),
    **dict.fromkeys(("ops.nn", "ops.numpy"), ("nbkeras.ops",)),
    "saving": ("nbkeras.saving", "nbkeras.models", "nbkeras.utils"),
    "legacy": (),
    "optimizers.legacy": ("nbkeras.optimizers",),
}

_KERAS_2: dict[str, tuple[str, ...]] = {
    **_BOTH,
    "": (f"{_OLD}.root", "nbkeras"),
    "backend": (f"{_OLD}.backend", _NO_GRAPH, "nbkeras.backend"),
    "layers": _OLD_LAYERS,
    "models": _OLD_MODELS,
    "utils": ("nbkeras.utils", *_OLD_UTILS),
    **dict.fromkeys(("utils.losses_utils", "utils.metrics_utils"), (f"{_OLD}.constants",)),
    "engine": _OLD_ENGINE,
    "legacy.interfaces": (f"{_OLD}.interfaces",),
    "objectives": ("nbkeras.losses",),
    "preprocessing.image": (f"{_OLD}.images", "nbkeras.preprocessing.image"),
    "preprocessing.text": ("nbkeras.preprocessing.text",),
    "wrappers.scikit_learn": (f"{_OLD}.scikit_learn",),
    **{f"layers.{name}": _OLD_LAYERS for name in [*_LAYERS.split(), "experimental", "experimental.preprocessing"]},
    **{f"engine.{name}": (*_OLD_ENGINE, "nbkeras.building.graph") for name in _ENGINE.split()},
    "optimizers.experimental": ("nbkeras.optimizers",),
    "engine.training_utils": (f"{_OLD}.training_utils", f"{_OLD}.generic_utils"),
    **{f"utils.{name}": ("nbkeras.utils", *_OLD_UTILS) for name in _UTILS.split()},
}

# Keras 2.3.1 had the networks of the package Keras-Applications: where that is installed, they come first.
_networks = importlib.util.find_spec("keras_applications")
if _networks is not None:
    _KERAS_2["applications"] = (f"{_OLD}.applications", *_BOTH["applications"])
    for _each in pkgutil.iter_modules(_networks.submodule_search_locations):
        _KERAS_2[f"applications.{_each.name}"] = (f"keras_applications.{_each.name}",)

# Family of Keras 3.15's `keras.src` -> its files; 'pooling(a b)' are files of a folder. Each has the family's public names.
_FILES = {
    "callbacks": (
        "backup_and_restore callback callback_list csv_logger early_stopping history lambda_callback learning_rate_scheduler "
        "model_checkpoint monitor_callback progbar_logger reduce_lr_on_plateau remote_monitor swap_ema_weights tensorboard "
        "terminate_on_nan"
    ),
    "constraints": "constraints",
    "initializers": "constant_initializers initializer random_initializers",
    "layers": (
        "input_spec layer activations(activation elu leaky_relu prelu relu softmax) attention(additive_attention attention "
        "grouped_query_attention multi_head_attention) convolutional(base_conv base_conv_transpose base_depthwise_conv "
        "base_separable_conv conv1d conv1d_transpose conv2d conv2d_transpose conv3d conv3d_transpose depthwise_conv1d "
        "depthwise_conv2d separable_conv1d separable_conv2d) core(dense einsum_dense embedding identity input_layer lambda_layer "
        "masking reversible_embedding wrapper) merging(add average base_merge concatenate dot maximum minimum multiply subtract) "
        "normalization(batch_normalization group_normalization layer_normalization rms_normalization spectral_normalization "
        "unit_normalization) pooling(average_pooling1d average_pooling2d average_pooling3d base_global_pooling base_pooling "
        "global_average_pooling1d global_average_pooling2d global_average_pooling3d global_max_pooling1d global_max_pooling2d "
        "global_max_pooling3d max_pooling1d max_pooling2d max_pooling3d) regularization(activity_regularization alpha_dropout "
        "dropout gaussian_dropout gaussian_noise spatial_dropout) reshaping(cropping1d cropping2d cropping3d flatten permute "
        "repeat_vector reshape up_sampling1d up_sampling2d up_sampling3d zero_padding1d zero_padding2d zero_padding3d) "
        "rnn(bidirectional conv_lstm conv_lstm1d conv_lstm2d conv_lstm3d gru lstm rnn simple_rnn stacked_rnn_cells "
        "time_distributed)"
    ),
    "losses": "loss losses",
    "metrics": (
        "accuracy_metrics confusion_metrics correlation_metrics f_score_metrics hinge_metrics iou_metrics metric "
        "probabilistic_metrics reduction_metrics regression_metrics"
    ),
    "models": "cloning functional model sequential",
    "optimizers": (
        "adadelta adafactor adagrad adam adamax adamw base_optimizer ftrl lamb lion loss_scale_optimizer muon nadam optimizer "
        "rmsprop sgd"
    ),
    "regularizers": "regularizers",
}


def _of_families() -> dict[str, tuple[str, ...]]:
    """Each module of _FILES, and the folders -> the modules of nbkeras with the family's names."""
    found: dict[str, tuple[str, ...]] = {}
    for family, text in _FILES.items():
        own = (f"{_INTERNAL}.base_layers",) if family == "layers" else ()
        for folder, inside, file in re.findall(r"(\w+)\(([^)]*)\)|(\w+)", text):
            names = [folder, *(f"{folder}.{each}" for each in inside.split())] if folder else [file]
            found.update({f"{family}.{name}": (*own, f"nbkeras.{family}") for name in names})
    return found


_IMAGES = "layers.preprocessing.image_preprocessing"
_EMPTY = ("layers.preprocessing", _IMAGES, f"{_IMAGES}.bounding_boxes", "legacy", "trainers", "trainers.data_adapters")

# Internal modules of Keras 3 that released packages import. docs/packages.md lists them.
SRC: dict[str, tuple[str, ...]] = {
    "": (f"{_INTERNAL}.root", "nbkeras"),
    **_same(
        "callbacks constraints distribution initializers layers losses metrics models ops optimizers optimizers.schedules "
        "quantizers random regularizers tree utils".split()
    ),
    **_of_families(),
    **{name: (f"{_INTERNAL}.{name}", f"nbkeras.{name}") for name in ("activations", "backend")},
    **dict.fromkeys(("backend.common", "backend.common.variables"), (f"{_INTERNAL}.backend", "nbkeras.backend")),
    "distribution.distribution_lib": ("nbkeras.distribution",),
    **dict.fromkeys(_EMPTY, ()),
    "layers.preprocessing.data_layer": (f"{_INTERNAL}.data_layer",),
    f"{_IMAGES}.base_image_preprocessing_layer": (f"{_INTERNAL}.image_layers",),
    f"{_IMAGES}.bounding_boxes.converters": ("nbkeras.utils.bounding_boxes",),
    "legacy.saving": (f"{_INTERNAL}.legacy_serialization",),
    "legacy.saving.legacy_h5_format": (f"{_INTERNAL}.legacy_h5_format",),
    "losses.losses": (f"{_INTERNAL}.losses", "nbkeras.losses"),
    **dict.fromkeys(("ops.nn", "ops.numpy"), ("nbkeras.ops",)),
    "optimizers.schedules.learning_rate_schedule": ("nbkeras.optimizers.schedules",),
    "saving": (f"{_INTERNAL}.serialization_lib", "nbkeras.saving"),
    "saving.object_registration": ("nbkeras.utils",),
    "saving.saving_lib": (f"{_INTERNAL}.saving_lib",),
    "saving.serialization_lib": (f"{_INTERNAL}.serialization_lib",),
    **dict.fromkeys(("testing", "testing.test_case", "testing.test_utils"), (f"{_INTERNAL}.testing",)),
    "trainers.data_adapters.data_adapter_utils": (f"{_INTERNAL}.data_adapter_utils",),
    "utils.tracking": (f"{_INTERNAL}.tracking",),
}

_KERAS_3: dict[str, tuple[str, ...]] = {
    **_BOTH,
    "": (f"{_INTERNAL}.root", "nbkeras"),
    "_tf_keras": (),
    "_tf_keras.keras": (f"{_INTERNAL}.root", "nbkeras"),  # an installed TensorFlow imports it as `tf.keras`
    "backend": (_NO_GRAPH, "nbkeras.backend"),
    **dict.fromkeys(("legacy.saving", "utils.legacy"), (f"{_INTERNAL}.legacy_serialization",)),
    **{f"src.{name}".rstrip("."): shown for name, shown in SRC.items()},
}

# Version of Keras -> module, without 'keras.' -> the modules of nbkeras with its names; the first module with a name wins.
SHOWN: dict[int, dict[str, tuple[str, ...]]] = {2: _KERAS_2, 3: _KERAS_3}

# Module -> older name -> its name in the nbkeras modules. Only Keras 2 has these names.
RENAMED: dict[str, dict[str, str]] = {
    "constraints": {"maxnorm": "max_norm", "nonneg": "non_neg", "unitnorm": "unit_norm"},
    "engine.network": {"Network": "Model"},
    "layers.convolutional": {"Deconv2D": "Conv2DTranspose", "Deconv3D": "Conv3DTranspose"},
    "optimizers": {name.lower(): name for name in ("Adadelta", "Adagrad", "Adam", "Adamax", "Nadam", "RMSprop", "SGD")},
}

# The modules that only Keras 3 has, and that are there in both modes. TensorFlow's Keras 2 had `export`, `mixed_precision` and
# `optimizers.schedules` too.
NEW_PARTS = ("distillation", "distribution", "dtype_policies", "ops", "quantizers", "random", "saving", "tree")

# The public names of Keras 3's `keras.backend`. nbkeras.backend has Keras 2's functions too.
BACKEND_OF_KERAS_3 = frozenset(
    "backend clear_session epsilon floatx get_uid image_data_format is_float_dtype is_int_dtype is_keras_tensor result_type "
    "set_epsilon set_floatx set_image_data_format standardize_dtype".split()
)
