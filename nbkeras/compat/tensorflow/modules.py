"""The modules of `tensorflow` and where their names are, and what to write in place of names that are not offered."""

_DTYPES = (
    "as_dtype cast saturate_cast string bool double float16 float32 float64 half int8 int16 int32 int64 uint8 uint16 uint32 "
    "uint64"
)
_DEVICES = (
    "get_visible_devices list_logical_devices list_physical_devices set_soft_device_placement set_visible_devices"
)
_DECODE = "decode_bmp decode_image decode_jpeg decode_png"
_IMAGE = ("image", f"files: convert_image_dtype {_DECODE}")

# Module, without 'tensorflow.' -> where its names are: a module of this package, and the names if they are not all of it.
SHOWN: dict[str, tuple[str, ...]] = {
    "": (
        "root",
        "arrays",
        f"dtypes: {_DTYPES}",
        "math: abs acos acosh add add_n argmax argmin asin asinh atan atan2 atanh cos cosh cumsum divide equal exp floor "
        "floordiv greater greater_equal less less_equal logical_and logical_not logical_or maximum minimum multiply negative "
        "not_equal pow reduce_all reduce_any reduce_logsumexp reduce_max reduce_mean reduce_min reduce_prod reduce_sum round "
        "scalar_mul sigmoid sign sin sinh sqrt square subtract tan tanh truediv",
        "first_version: extract_image_patches",
        "nn: depth_to_space space_to_depth",
        "tensor_array",
        "debugging: Assert assert_equal assert_greater assert_less assert_rank",
    ),
    "compat": (),
    "compat.v1": (),
    "compat.v1.image": (
        "first_version: ResizeMethod extract_image_patches resize resize_area resize_bilinear resize_images "
        "resize_nearest_neighbor",
        *_IMAGE,
    ),
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
    "image": _IMAGE,
    "io": (f"files: read_file write_file {_DECODE}",),
    "io.gfile": ("gfile",),
    "linalg": ("linalg", "arrays: einsum eye global_norm matmul norm tensordot", "math: l2_normalize"),
    "math": ("math",),
    "nest": ("nest",),
    "nn": (
        "nn",
        "math: in_top_k l2_normalize log_softmax sigmoid softmax softplus softsign tanh top_k zero_fraction",
    ),
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

# Names and modules, without 'tensorflow.', that packages import, or ask whether an object is one, and then need not use. They
# raise an error when they are used, not when they are read.
MENTIONED = frozenset(
    "RaggedTensor SparseTensor SparseTensorSpec complex image.non_max_suppression image.non_max_suppression_with_scores "
    "python.framework.smart_cond python.ops.gen_sparse_ops python.ops.linalg signal.irfft2d signal.rfft2d sparse".split()
)

_NO_SESSION = "there are no sessions and no graphs to set up: leave it out"
_DENSE = "tensors are dense: use keras.ops on arrays with zeros, or keras.layers.Embedding for indices"
_PAIRS = "keras.ops has complex numbers as pairs of a real and an imaginary part"
_RAGGED = "fill rows up with keras.utils.pad_sequences"
_ROWS = "write a generator, and tf.data.Dataset.from_generator"
# Name or module, without 'tensorflow.' -> what to write in its place; '' is for names without an entry.
INSTEAD = {
    "": "use keras.ops in models and NumPy elsewhere",
    "ConfigProto": _NO_SESSION,
    "Graph": _NO_SESSION,
    "IndexedSlices": _DENSE,
    "RaggedTensor": _RAGGED,
    "Session": _NO_SESSION,
    "SparseTensor": _DENSE,
    "audio": "read sound with Python's wave, and make spectrograms with keras.layers.MelSpectrogram",
    "autodiff": "use keras.autodiff.jvp",
    "autograph": "leave it out: write loops and conditions with keras.ops.while_loop and keras.ops.cond",
    "bfloat16": "write the dtype as a string, 'bfloat16'",
    "bitwise": "use keras.ops.bitwise_and and its relatives",
    "compat": _NO_SESSION,
    "complex": _PAIRS,
    "complex128": _PAIRS,
    "complex64": _PAIRS,
    "config": "leave it out: nbkeras.config.set_device chooses a device",
    "control_dependencies": "leave it out: functions run in the order of the program",
    "data": _ROWS,
    "data.Options": "leave it out: elements are made one after another",
    "debugging": "use Python's assert on x.numpy()",
    "debugging.enable_check_numerics": "use `with nbkeras.debug.check_numerics():`",
    "distribute": "keras.distribution.DataParallel trains with several processes",
    "dtypes": "write the dtype as a string",
    "errors": "catch Exception: nbkeras raises Python's errors",
    "estimator": "use keras.Model and its fit",
    "feature_column": "use keras.utils.FeatureSpace",
    "foldl": "use keras.ops.scan",
    "gfile": "use tf.io.gfile, or open and os",
    "gradients": "use keras.GradientTape",
    "hessians": "use keras.autodiff.hessian",
    "image": "use keras.ops.image, or pillow for files",
    "init_scope": "leave it out",
    "io": "read files with Python's open, csv or json, and map their content",
    "linalg": "use keras.ops.linalg in models and numpy.linalg elsewhere",
    "lite": "model.export('model.onnx') writes a model for other programs",
    "lookup": "use keras.layers.StringLookup or keras.layers.IntegerLookup",
    "math": "use keras.ops in models, and NumPy or SciPy elsewhere",
    "nn": "use keras.ops or keras.layers",
    "nondifferentiable_batch_function": "call the function",
    "profiler": "use keras.callbacks.TensorBoard, or Python's cProfile",
    "py_function": "call the function",
    "python": "use the public name",
    "python.framework.smart_cond": "use keras.ops.cond",
    "python.keras": "write tensorflow.keras",
    "python.ops.gen_sparse_ops": _DENSE,
    "python.ops.linalg": _DENSE,
    "quantization": "use model.quantize('int8')",
    "queue": "use Python's queue",
    "ragged": _RAGGED,
    "random": "use keras.random",
    "raw_ops": "use the function of the same name in tf or in keras.ops",
    "saved_model": "use model.save('model.keras')",
    "set_random_seed": "use keras.utils.set_random_seed",
    "sets": "use numpy.intersect1d and its relatives",
    "signal": "use scipy.signal outside of models",
    "signal.fft": "keras.ops.fft takes and returns pairs of a real and an imaginary part",
    "signal.stft": "keras.ops.stft returns a real and an imaginary part",
    "sparse": _DENSE,
    "strings": "call a function of Python's str on x.numpy().decode(), and tf.constant on its result",
    "summary": "use keras.callbacks.TensorBoard, or a writer of the package tensorboardX",
    "test": "use Python's unittest, numpy.testing and keras.config.set_device",
    "tpu": "keras.distribution.DataParallel trains with several processes",
    "train": "use keras.optimizers and keras.callbacks.ModelCheckpoint",
    "types": "use keras.Tensor or another class",
    "variable_creator_scope": "leave it out: layers make variables with add_weight",
    "xla": "leave it out: tf.function records steps",
}
