"""The names of Keras that nbkeras omits, and the reasons. Error messages and docs/keras-parity.md show them."""

_QUANTIZED = "nbkeras quantizes weights to int8 only"
_COMPLEX = "nbkeras has no complex numbers"
_FOREIGN = "it runs code of another framework, which nbkeras does not load"
_AUDIO = "nbkeras has no layers for audio"
_DETECTION = "nbkeras has no functions for bounding boxes of object detection"
_ONE_DEVICE = "a process computes on one device; with nbkeras.distribution, several processes train a model together"
_DATA_PARALLEL = "each process has the whole model, because nbkeras does not split models: see DataParallel"
_MIXES = "it changes images and their labels, and nbkeras's preprocessing layers change only images"
_INTERNAL = "it is an internal function or class of Keras"
_SESSION = "nbkeras has no sessions: it computes immediately"
_SWITCH = "it configures a feature that nbkeras does not have"

# Module of Keras -> reason -> names, or '*' for the whole module.
ABSENT: dict[str, dict[str, str]] = {
    "keras": {
        "use backend.function, or Model": "Function",
        "nbkeras makes a layer from each op on symbolic tensors": "Operation",
        "use remat(f) for each function that should be computed again in the backward pass": "RematScope",
        "use the stateless methods of layers, models, metrics and optimizers, such as layer.stateless_call": "StatelessScope",
        "nbkeras finds shapes by dry runs of call": "SymbolicScope",
        "layers name their variables": "name_scope",
    },
    "keras.applications": {
        "nbkeras has no pretrained weights: build the network from layers and load your own weights": "*"
    },
    "keras.backend": {
        "operations run in the order in which the code calls them": "control_dependencies",
        "nbkeras has only dense arrays": "ctc_label_dense_to_sparse is_sparse to_dense",
        "nbkeras has no graph mode: it records steps by itself": "eager symbolic",
        _SESSION: "get_graph get_session set_session",
        "variables get their values when they are created": "manual_variable_initialization v1_variable_initialization",
        "layers name their variables": "name_scope",
        _INTERNAL: "is_symbolic py_all py_any py_slice py_sum",
    },
    "keras.callbacks": {
        "it needs orbax, a package for JAX: use ModelCheckpoint or BackupAndRestore": "OrbaxCheckpoint",
        "logs already contain averages: each metric computes its own": "BaseLogger",
    },
    "keras.config": {
        _SWITCH: "enable_flash_attention enable_unsafe_deserialization "
        "is_nnx_enabled max_epochs max_steps_per_epoch set_backend set_max_epochs set_max_steps_per_epoch",
    },
    "keras.distillation": {"write a Model with your own train_step": "*"},
    "keras.distribution": {_DATA_PARALLEL: "DeviceMesh LayoutMap ModelParallel TensorLayout distribute_tensor"},
    "keras.dtype_policies": {
        _QUANTIZED: "AWQDTypePolicy GPTQDTypePolicy Int4DTypePolicy QuantizedFloat8DTypePolicy",
    },
    "keras.export": {"nbkeras does not write SavedModels: Model.export writes ONNX": "ExportArchive"},
    "keras.layers": {
        _MIXES: "AugMix CutMix MixUp",
        "nbkeras does not compute histograms of images": "ContrastLimitedAdaptiveHistogramEqualization Equalization",
        _FOREIGN: "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper",
        _DETECTION: "MaxNumBoundingBoxes",
        _AUDIO: "MelSpectrogram STFTSpectrogram",
        "nbkeras has no layer that applies random augmentations: put augmentation layers in sequence": "RandAugment",
        "write a layer that calls ops.image.elastic_transform": "RandomElasticTransform",
        "write a layer that calls ops.image.perspective_transform": "RandomPerspective",
        _INTERNAL: "deserialize_keras_object",
    },
    "keras.losses": {_INTERNAL: "is_categorical_crossentropy"},
    "keras.metrics": {_INTERNAL: "BaseMeanIoU Reduce SensitivitySpecificityBase clone_metric clone_metrics"},
    "keras.models": {_INTERNAL: "K has_arg to_list"},
    "keras.ops": {_COMPLEX: "eig polar view_as_complex view_as_real"},
    "keras.ops.linalg": {_COMPLEX: "eig"},
    "keras.ops.nn": {_COMPLEX: "polar"},
    "keras.optimizers": {
        "it wraps a TensorFlow optimizer; nbkeras does not use TensorFlow": "TFOptimizer",
        _INTERNAL: "clip_norm",
    },
    "keras.quantizers": {
        _QUANTIZED: "AWQConfig Float8QuantizationConfig GPTQConfig Int4QuantizationConfig "
        "abs_max_quantize_grouped_with_zero_point compute_float8_amax_history compute_float8_scale pack_int4 unpack_int4",
        "nbkeras does not simulate integer weights during training": "fake_quant_with_min_max_vars quantize_and_dequantize",
    },
    "keras.saving": {"nbkeras cannot edit model files": "KerasFileEditor"},
    "keras.utils": {
        "prepare the columns of a table as arrays, with preprocessing layers": "FeatureSpace",
        _INTERNAL: "H5Dict",
        _ONE_DEVICE: "multi_gpu_model",
    },
    "keras.utils.bounding_boxes": {_DETECTION: "*"},
    "keras.visualization": {"nbkeras does not draw images: use matplotlib": "*"},
}


def reason(name: str) -> str:
    """Returns the reason why nbkeras omits 'keras.module.name', or '' for any other name."""
    module, _, own = name.rpartition(".")
    for place, wanted in ((module, own), (name, "*")):
        for why, names in ABSENT.get(place, {}).items():
            if wanted in names.split() or names == "*":
                return why
    return ""
