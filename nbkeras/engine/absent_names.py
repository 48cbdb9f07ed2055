"""The names of Keras that nbkeras omits, and the reasons. Error messages and docs/keras-parity.md show them."""

_FOREIGN = "it runs code of another framework, which nbkeras does not load"
_ONE_DEVICE = "a process computes on one device; with nbkeras.distribution, several processes train a model together"
_INTERNAL = "it is an internal function or class of Keras"
_SESSION = "nbkeras has no sessions: it computes immediately"

# Module of Keras -> reason -> names, or '*' for the whole module.
ABSENT: dict[str, dict[str, str]] = {
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
    "keras.layers": {
        _FOREIGN: "FlaxLayer JaxLayer TFSMLayer TorchModuleWrapper",
        _INTERNAL: "deserialize_keras_object",
    },
    "keras.losses": {_INTERNAL: "is_categorical_crossentropy"},
    "keras.metrics": {_INTERNAL: "BaseMeanIoU Reduce SensitivitySpecificityBase clone_metric clone_metrics"},
    "keras.models": {_INTERNAL: "K has_arg to_list"},
    "keras.optimizers": {
        "it wraps a TensorFlow optimizer; nbkeras does not use TensorFlow": "TFOptimizer",
        _INTERNAL: "clip_norm",
    },
    "keras.utils": {
        _INTERNAL: "H5Dict",
        _ONE_DEVICE: "multi_gpu_model",
    },
}


def reason(name: str) -> str:
    """Returns the reason why nbkeras omits 'keras.module.name', or '' for any other name."""
    module, _, own = name.rpartition(".")
    for place, wanted in ((module, own), (name, "*")):
        for why, names in ABSENT.get(place, {}).items():
            if wanted in names.split() or names == "*":
                return why
    return ""
