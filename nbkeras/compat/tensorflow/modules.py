"""The modules of `tensorflow` and where their names are, and what to write in place of names that are not offered."""

_DTYPES = (
    "as_dtype cast saturate_cast string bool double float16 float32 float64 half int8 int16 int32 int64 uint8 uint16 uint32 "
    "uint64"
)
_DEVICES = (
    "get_visible_devices list_logical_devices list_physical_devices set_soft_device_placement set_visible_devices"
)
_DECODE = "decode_bmp decode_image decode_jpeg decode_png"

# Module, without 'tensorflow.' -> where its names are: a module of this package, and the names if they are not all of it.
SHOWN: dict[str, tuple[str, ...]] = {
    "": (
        "root",
        "arrays",
        f"dtypes: {_DTYPES}",
        "math: abs acos acosh add add_n argmax argmin asin asinh atan atan2 atanh cos cosh cumsum divide equal exp floor greater "
        "greater_equal less less_equal logical_and logical_not logical_or maximum minimum multiply negative not_equal pow "
        "reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum round scalar_mul "
        "sigmoid sign sin sinh sqrt square subtract tan tanh truediv",
        "first_version: depth_to_space extract_image_patches floordiv space_to_depth",
        "tensor_array",
        "debugging: Assert assert_equal assert_greater assert_less assert_rank",
    ),
    "compat": (),
    "compat.v1": (),
    "compat.v1.logging": ("settings: DEBUG ERROR FATAL INFO WARN set_verbosity",),
    "config": (f"settings: {_DEVICES} PhysicalDevice experimental_run_functions_eagerly run_functions_eagerly",),
    "config.experimental": (
        f"settings: {_DEVICES} enable_op_determinism enable_tensor_float_32_execution set_memory_growth "
        "set_virtual_device_configuration",
    ),
    "config.optimizer": ("settings: set_jit",),
    "config.threading": ("settings: set_inter_op_parallelism_threads set_intra_op_parallelism_threads",),
    "data": ("data: AUTOTUNE Dataset INFINITE_CARDINALITY UNKNOWN_CARDINALITY", "text_files: TextLineDataset"),
    "data.experimental": (
        "data: AUTOTUNE INFINITE_CARDINALITY UNKNOWN_CARDINALITY cardinality",
        "text_files: make_csv_dataset",
    ),
    "debugging": ("debugging",),
    "dtypes": (f"dtypes: DType {_DTYPES}",),
    "errors": ("errors",),
    "image": ("image",),
    "io": (f"files: read_file write_file {_DECODE}",),
    "linalg": ("linalg",),
    "math": ("math",),
    "nest": ("nest",),
    "nn": ("nn",),
    "python": (),
    "python.framework": (),
    "python.framework.errors": ("errors",),
    "python.framework.errors_impl": ("errors",),
    "python.ops": (),
    "python.ops.ctc_ops": ("first_version: ctc_loss_v2",),
    "random": ("random",),
    "signal": ("signal",),
    "strings": ("strings",),
    "summary": ("summary: create_file_writer histogram image scalar text",),
    "test": ("settings: gpu_device_name is_built_with_cuda is_gpu_available",),
    "train": ("train",),
    "version": (),
}

# Module of TensorFlow -> the module of Keras that it is.
OF_KERAS = {
    "keras": "keras",
    "initializers": "keras.initializers",
    "losses": "keras.losses",
    "metrics": "keras.metrics",
    "optimizers": "keras.optimizers",
}

_NO_SESSION = "there are no sessions and no graphs to set up: leave it out"
# Name, without 'tensorflow.' -> what to write in its place.
INSTEAD = {
    "ConfigProto": _NO_SESSION,
    "Graph": _NO_SESSION,
    "Module": "use keras.layers.Layer",
    "RaggedTensor": "fill rows up with keras.utils.pad_sequences",
    "Session": _NO_SESSION,
    "bfloat16": "tensors of floats are float32 or float64",
    "compat": _NO_SESSION,
    "complex64": "keras.ops has complex numbers as pairs of a real and an imaginary part",
    "data.TFRecordDataset": "write a generator, and tf.data.Dataset.from_generator",
    "distribute": "keras.distribution.DataParallel trains with several processes",
    "gfile": "use open and os",
    "io.gfile": "use open and os",
    "lite": "model.export('model.onnx') writes a model for other programs",
    "py_function": "call the function",
    "python.keras": "write tensorflow.keras",
    "ragged": "fill rows up with keras.utils.pad_sequences",
    "saved_model": "use model.save('model.keras')",
    "set_random_seed": "use keras.utils.set_random_seed",
    "signal.fft": "keras.ops.fft takes and returns pairs of a real and an imaginary part",
    "signal.stft": "keras.ops.stft returns a real and an imaginary part",
    "sparse": "tensors are dense",
    "strings": "call a function of Python's str on x.numpy().decode(), and tf.constant on its result",
    "train": "use keras.optimizers and keras.callbacks.ModelCheckpoint",
}
