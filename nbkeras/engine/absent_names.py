"""Names of Keras that nbkeras omits, with the reasons, for messages and for docs/keras-parity.md."""

_QUANTIZED = "nbkeras quantizes weights to int8 only"
_COMPLEX = "nbkeras has no complex numbers"
_FOREIGN = "it runs code of another framework"
_AUDIO = "nbkeras has no layers for audio"
_DETECTION = "nbkeras has nothing for boxes of object detection"
_ONE_DEVICE = "a process computes on one device: several processes train together by nbkeras.distribution"
_DATA_PARALLEL = "each process has the whole model: see DataParallel"
_MIXES = "it mixes images and labels, and nbkeras's layers change images alone"
_INTERNAL = "Keras has it for its own use"
_SESSION = "there are no sessions: nbkeras computes at once"
_SWITCH = "it switches something that nbkeras does not have"

# Module of Keras -> reason -> names, or '*' for the whole module.
ABSENT: dict[str, dict[str, str]] = {
    "keras": {
        "backend.function and Model do what it does": "Function",
        "an op on symbolic tensors becomes a layer": "Operation",
        "remat(f) is for the parts that should run twice": "RematScope",
        "layers, models, metrics and optimizers have stateless calls of their own: layer.stateless_call": "StatelessScope",
        "shapes are found by dry runs": "SymbolicScope",
        "variables are named by their layers": "name_scope",
    },
    "keras.applications": {"nbkeras has no pretrained weights: build the network from layers and load your own": "*"},
    "keras.backend": {
        "operations run in the order in which they were written": "control_dependencies",
        "nbkeras has dense arrays only": "ctc_label_dense_to_sparse is_sparse to_dense",
        "nbkeras has no second graph mode": "eager symbolic",
        _SESSION: "get_graph get_session set_session",
        "variables hold their values from the start": "manual_variable_initialization v1_variable_initialization",
        "variables are named by their layers": "name_scope",
        _INTERNAL: "is_symbolic py_all py_any py_slice py_sum",
    },
    "keras.callbacks": {
        "it needs a package of JAX: use ModelCheckpoint or BackupAndRestore": "OrbaxCheckpoint",
        "metrics are averaged where they are counted": "BaseLogger",
    },
    "keras.config": {
        _SWITCH: "disable_flash_attention enable_flash_attention enable_unsafe_deserialization is_flash_attention_enabled "
        "is_nnx_enabled max_epochs max_steps_per_epoch set_backend set_max_epochs set_max_steps_per_epoch",
    },
    "keras.distillation": {"it is a recipe for training: write a Model with a train_step of its own": "*"},
    "keras.distribution": {_DATA_PARALLEL: "DeviceMesh LayoutMap ModelParallel TensorLayout distribute_tensor"},
    "keras.dtype_policies": {
        _QUANTIZED: "AWQDTypePolicy GPTQDTypePolicy Int4DTypePolicy QuantizedFloat8DTypePolicy",
    },
    "keras.export": {"there is no SavedModel: Model.export writes ONNX": "ExportArchive"},
    "keras.layers": {
        _MIXES: "AugMix CutMix MixUp",
        "nbkeras has no histograms of images": "ContrastLimitedAdaptiveHistogramEqualization Equalization",
        _FOREIGN: "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper",
        _DETECTION: "MaxNumBoundingBoxes",
        _AUDIO: "MelSpectrogram STFTSpectrogram",
        "nbkeras has no augmentation by random policies": "RandAugment",
        "use ops.image.elastic_transform in a layer of your own": "RandomElasticTransform",
        "use ops.image.perspective_transform in a layer of your own": "RandomPerspective",
        _INTERNAL: "deserialize_keras_object",
    },
    "keras.losses": {_INTERNAL: "is_categorical_crossentropy"},
    "keras.metrics": {_INTERNAL: "BaseMeanIoU Reduce SensitivitySpecificityBase clone_metric clone_metrics"},
    "keras.models": {_INTERNAL: "K has_arg to_list"},
    "keras.ops": {_COMPLEX: "eig polar view_as_complex view_as_real"},
    "keras.ops.linalg": {_COMPLEX: "eig"},
    "keras.ops.nn": {_COMPLEX: "polar"},
    "keras.optimizers": {"it wraps an optimizer of TensorFlow": "TFOptimizer", _INTERNAL: "clip_norm"},
    "keras.quantizers": {
        _QUANTIZED: "AWQConfig Float8QuantizationConfig GPTQConfig Int4QuantizationConfig "
        "abs_max_quantize_grouped_with_zero_point compute_float8_amax_history compute_float8_scale pack_int4 unpack_int4",
        "it imitates integers in training": "fake_quant_with_min_max_vars quantize_and_dequantize",
    },
    "keras.saving": {"nbkeras has no editor of files": "KerasFileEditor"},
    "keras.utils": {
        "prepare tables of text and categories as arrays, with the layers for preprocessing": "FeatureSpace",
        _INTERNAL: "H5Dict",
        _ONE_DEVICE: "multi_gpu_model",
    },
    "keras.utils.bounding_boxes": {_DETECTION: "*"},
    "keras.visualization": {"nbkeras draws no images: use matplotlib": "*"},
}


def reason(name: str) -> str:
    """The reason why nbkeras omits 'keras.module.name'; '' for a name that exists, or that Keras does not have."""
    module, _, own = name.rpartition(".")
    for place, wanted in ((module, own), (name, "*")):
        for why, names in ABSENT.get(place, {}).items():
            if wanted in names.split() or names == "*":
                return why
    return ""
