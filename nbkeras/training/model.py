"""Floor 3: Model, a graph of layers, or a subclass that defines `call`.

It combines a Learner (learner.py: `compile` and the steps), a Trainer (trainer.py: `fit`, `evaluate`, `predict`) and a
Functional (functional.py: the graph). This module adds access to layers, and files.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from nbkeras import export
from nbkeras.building.graph import OverridableProperty
from nbkeras.building.layer import Layer, layers
from nbkeras.engine.annotations import briefly
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.registry import nearest
from nbkeras.engine.tensor import on_own_device
from nbkeras.engine.user_errors import set_by_init, warn
from nbkeras.training.functional import Functional
from nbkeras.visualization.summary import print_summary, summary_html

if TYPE_CHECKING:
    from nbkeras.inference.session import Frozen
    from nbkeras.inference.stream import Stream

_freezing, _stream = LazyModule("nbkeras.inference.freezing"), LazyModule("nbkeras.inference.stream")
_files, _text = LazyModule("nbkeras.saving.files"), LazyModule("nbkeras.saving.keras_3_config")
_quantization = LazyModule("nbkeras.quantizers.quantization")
_state_tree, _compilation = LazyModule("nbkeras.saving.state_tree"), LazyModule("nbkeras.saving.compilation")


class Model(Functional):
    """Layers that learn together: `Model(inputs, outputs)` from symbolic tensors, or a subclass that writes `call`.

    A subclass may also override `train_step`, `test_step`, `predict_step`, `compute_loss` and
    `compute_metrics`.

    Args:
        inputs: A symbolic tensor made by `Input`, or a list, tuple or dict of them; None in a subclass.
        outputs: The symbolic tensors to compute from the inputs: one, or a list, tuple or dict; None in a
            subclass.

    Raises:
        ValueError: if only one of inputs and outputs is given, if they are not symbolic tensors, if the outputs
            need an input that is not given, or if two layers have the same name.

    Example:
        >>> x = layers.Input((3,))
        >>> model = keras.Model(x, layers.Dense(2)(x))
        >>> model.predict(np.ones((4, 3))).shape
        (4, 2)
        >>> class Doubled(keras.Model):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.dense = layers.Dense(2)
        ...     def call(self, inputs):
        ...         return 2.0 * self.dense(inputs)
        >>> Doubled().predict(np.ones((4, 3))).shape
        (4, 2)
    """

    # -------------------- layers --------------------

    def get_layer(self, name: str | None = None, index: int | None = None) -> Layer:
        """A layer by its name or its index.

        Args:
            name: The layer's name.
            index: The index in `layers`, counted from the end if negative; it takes precedence over name.

        Raises:
            ValueError: if there is no such layer.

        Example:
            >>> model = keras.Sequential([layers.Dense(4, name="first", input_shape=(3,)), layers.Dense(2)])
            >>> model.get_layer("first").units, model.get_layer(index=-1).units
            (4, 2)
        """
        layers = self.layers
        if index is not None:
            if not -len(layers) <= index < len(layers):
                raise ValueError(f"there is no layer {index}: the model has {len(layers)} layers")
            return layers[index]
        for layer in layers:
            if layer.name == name:
                return layer
        names = [layer.name for layer in layers]
        raise ValueError(f"there is no layer {name!r}.{nearest(str(name), names)} Layers: {names}")

    @OverridableProperty
    def stateful(self) -> bool:
        """Whether any layer keeps states from batch to batch."""
        return any(getattr(layer, "stateful", False) for layer in self._all_layers()[1:])

    def reset_states(self, samples=None) -> None:
        """Set the states of stateful layers to zero.

        Args:
            samples: Which rows of the batch to reset, as a bool mask or indices; None for all.
        """
        for layer in self._all_layers()[1:]:
            if getattr(layer, "stateful", False) and hasattr(layer, "reset_states"):
                layer.reset_states() if samples is None else layer.reset_states(samples=samples)

    def summary(
        self,
        line_length: int | None = None,
        positions: Sequence[float] | None = None,
        print_fn: Callable[[str], Any] | None = None,
        expand_nested: bool = False,
        show_trainable: bool = False,
        layer_range: Sequence[str] | None = None,
    ) -> None:
        """Print a table of layers, output shapes and numbers of parameters.

        Args:
            line_length: The number of characters of a line; None for as many as the table needs, at most the
                terminal's width.
            positions: The ends of columns in characters, or as fractions of the line if the last one is at most 1.
            print_fn: A function that gets each line; None prints it.
            expand_nested: Whether to show the layers of nested models too.
            show_trainable: Whether to show a column with Y for trainable layers, N for frozen ones.
            layer_range: The names of the first and the last layer to show, or regular expressions of them.

        Raises:
            ValueError: if layer_range is not two strings, or if no layer's name matches.

        Example:
            >>> keras.Sequential([layers.Dense(2, name="out", input_shape=(3,))], name="small").summary()
            Model: "small"
            _____________________________________
            Layer (type)  Output Shape  Param #
            =====================================
            out (Dense)   (None, 2)     8
            =====================================
            Total params: 8 (32.00 B)
            Trainable params: 8 (32.00 B)
            Non-trainable params: 0 (0.00 B)
            _____________________________________
        """
        print_summary(self, line_length, positions, print_fn, expand_nested, show_trainable, layer_range)

    def _repr_html_(self) -> str:
        """The summary, for notebooks."""
        return summary_html(self)

    # -------------------- saving --------------------

    @on_own_device
    def __reduce__(self) -> tuple:
        """Pickle and copy the model as the file that `save` writes; needs h5py."""
        return _files.from_bytes, (_files.to_bytes(self),)

    @on_own_device
    def save(
        self,
        filepath: Any,
        overwrite: bool = True,
        include_optimizer: bool = True,
        save_format: str | None = None,
        zipped: bool = True,
        weights_dtype: str | None = None,
    ) -> None:
        """Write the whole model to a file; `load_model` reads it, and training continues exactly where it stopped.

        It holds the architecture, weights, states, the arguments of `compile` and the optimizer's state. Needs
        h5py.

        Args:
            filepath: A name that ends in .keras, or an open binary file, selects Keras 3's format. A name that ends in .h5 or
                .hdf5, or an open h5py.File, selects Keras 2's HDF5; so does any other name in Keras 2's mode.
            overwrite: Whether an existing file is replaced.
            include_optimizer: Whether the optimizer's state is written.
            save_format: 'keras' or 'h5', whatever the name is; None for the format of the name.
            zipped: False writes Keras 3's files into a folder instead of a zip file.
            weights_dtype: 'bfloat16' rounds the weights in the file to half of their bytes and keeps two to three digits. Keras 3
                reads it too. None does not round.

        Raises:
            FileExistsError: for an existing file with overwrite=False.
            ValueError: for an unknown save_format or weights_dtype, and for a name with another ending, without a save_format.

        Example:
            >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> model.save("model.keras")
            >>> x = np.ones((1, 3))
            >>> bool(np.all(keras.models.load_model("model.keras").predict(x) == model.predict(x)))
            True
        """
        _files.save_model(self, filepath, overwrite, include_optimizer, save_format, zipped, weights_dtype)

    @on_own_device
    def save_weights(
        self,
        filepath: Any,
        overwrite: bool = True,
        save_format: str | None = None,
        weights_dtype: str | None = None,
        max_shard_size: float | None = None,
    ) -> None:
        """Write the weights to a file.

        Args:
            filepath: The ending decides the format: .weights.h5 for Keras 3's, with the state of the optimizer
                if it is built; .safetensors; any other for Keras 2's HDF5.
            overwrite: Whether an existing file is replaced.
            save_format: 'h5' for Keras 2's HDF5, whatever the name is; None for the format of the name.
            weights_dtype: 'bfloat16' rounds the weights in a file .weights.h5 to half of their bytes; see `save`.
            max_shard_size: The largest number of GB in a file, for several files that a file .weights.json lists; None for one.

        Raises:
            FileExistsError: for an existing file with overwrite=False.
            ValueError: if the model has no weights yet, if weights_dtype is unknown, or if the format has no weights_dtype.

        Example:
            >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> model.save_weights("model.weights.h5")
            >>> model.load_weights("model.weights.h5")
        """
        _files.save_weights(self, filepath, overwrite, save_format, weights_dtype, max_shard_size)

    @on_own_device
    def load_weights(self, filepath: Any, by_name: bool = False, skip_mismatch: bool = False) -> None:
        """Read weights from a file of weights or of a whole model, written by nbkeras or Keras.

        Shapes must agree. All weights are checked before any is written. If a file of Keras 3 holds an
        optimizer's state and the model's optimizer is built, the state is read too.

        Args:
            filepath: The file; its content decides the format.
            by_name: Match the layers of HDF5 files of Keras 2 by their names; other layers keep their values.
            skip_mismatch: Layers (for Keras 2's files, single weights) that do not match keep their values, with
                a warning.

        Raises:
            FileNotFoundError: if there is no such file.
            ValueError: if the model has no weights yet, if the file does not match the model or has no weights,
                and for by_name=True with a file that is not Keras 2's.
        """
        _files.load_weights(self, filepath, by_name, skip_mismatch)

    @on_own_device
    def get_state_tree(self, value_format: str = "backend_tensor") -> dict[str, dict]:
        """The values of all variables of the layers, the optimizer and the metrics, as nested dicts.

        Args:
            value_format: 'backend_tensor' or 'numpy_array', the kind of the values.

        Returns:
            A dict with 'trainable_variables', 'non_trainable_variables', 'optimizer_variables' and 'metrics_variables'. Each
            holds nested dicts by the names in the variables' paths.

        Raises:
            ValueError: for an unknown value_format, and for two variables with one path.

        Example:
            >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="last")], name="small")
            >>> model.get_state_tree("numpy_array")["trainable_variables"]["small"]["last"]["bias"]
            array([0.], dtype=float32)
        """
        return _state_tree.tree_of(self, value_format)

    @on_own_device
    def set_state_tree(self, state_tree: dict[str, dict]) -> None:
        """Write values that `get_state_tree` returned into the variables.

        Values without a variable are ignored with a warning, for example the state of an optimizer that is not built.

        Args:
            state_tree: The dict that `get_state_tree` returned, or a part of it.

        Raises:
            ValueError: for an unknown group of variables, and for a value of the wrong shape; nothing is written then.

        Example:
            >>> model = keras.Sequential([keras.Input((2,)), layers.Dense(1, name="last")], name="small")
            >>> model.set_state_tree({"trainable_variables": {"small": {"last": {"bias": np.array([3.0])}}}})
            >>> model.layers[-1].bias.numpy()
            array([3.], dtype=float32)
        """
        _state_tree.write_tree(self, state_tree)

    def to_json(self, **options) -> str:
        """The architecture as JSON, in Keras 3's form, without weights; `models.model_from_json` reads it.

        Args:
            **options: Arguments of `json.dumps`, such as indent=2.

        Example:
            >>> text = keras.Sequential([layers.Dense(2, input_shape=(3,))]).to_json()
            >>> keras.models.model_from_json(text).output_shape
            (None, 2)
        """
        return _text.model_to_json(self, **options)

    # -------------------- inference for other programs and servers --------------------

    def export(
        self,
        filepath: Any,
        format: str | None = None,
        verbose: bool | None = None,
        input_signature: Any = None,
        **options: Any,
    ) -> None:
        """Write the model for inference, with its weights: an ONNX file, or a shared library with a C header and Python module.

        See `nbkeras.export.export_onnx` and `nbkeras.export.export_library`.

        Args:
            filepath: The name of the file.
            format: 'onnx' or 'library'; None for a library if the name ends in .so or .wasm, else ONNX.
            verbose: False prints nothing; None and True print the file's name.
            input_signature: The shape of each input, for models without a graph and to fix sizes.
            **options: `batch`, `target`, `weights` and `state` of a library.

        Raises:
            ImportError: for ONNX, if the package onnx is not installed.
            TypeError: for an option that the format does not have.
            ValueError: for an unknown format, and for a model that cannot be written in this format.

        Example:
            >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> model.export("model.onnx")
            Saved the ONNX model at 'model.onnx'.
            >>> model.export("libmodel.so", batch=[1, 32])
            Saved the library at 'libmodel.so', with model.h and model.py.
        """
        if format is None:
            format = "library" if str(filepath).endswith((".so", ".wasm", ".dylib", ".dll")) else "onnx"
        if format == "library":
            export.export_library(self, filepath, input_signature, verbose, **options)
        elif format == "onnx":
            if options:
                raise TypeError(f"an ONNX file has no options {', '.join(options)}: these are of format='library'")
            export.export_onnx(self, filepath, input_signature, verbose)
        else:
            raise ValueError(
                f"format must be 'onnx' or 'library', received {briefly(format)}: nbkeras writes no other inference format"
            )

    def frozen(
        self, batch_sizes: int | Sequence[int] = (1, 32), input_signature: Any = None, weights: str | None = None
    ) -> Frozen:
        """The model's inference with its present weights, recorded in advance: it runs without Python's layers, in many threads.

        It computes the same as `predict`, bit for bit in batches of the recorded sizes. Later training does not change it.

        Args:
            batch_sizes: The batch sizes to record programs for. A batch of another size is split, and its last part is padded.
            input_signature: The shape of each input (a tuple, an InputSpec or an Input), for models without a graph
                and to fix sizes; its first axis is ignored.
            weights: 'bfloat16' rounds the large matrices of Dense, EinsumDense and Embedding and keeps them in half of their
                memory, which products with few rows read in half of the time; see docs/precision.md. None keeps float32.

        Returns:
            A `nbkeras.inference.Frozen`. Call it like `predict`; move it to other processes by pickle or `save`.

        Raises:
            ValueError: for a model that is on a GPU, keeps states, or needs Python to predict, and for unknown sizes; the
                message names the layer or the input.

        Example:
            >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
            >>> frozen = model.frozen(batch_sizes=(1, 8))
            >>> frozen(np.array([[1.0, 2.0], [3.0, 4.0]]))
            array([[3.],
                   [7.]], dtype=float32)
        """
        return _freezing.freeze(self, batch_sizes, input_signature, weights)

    def stream(self, window: int | None = None, sequences: Sequence[str] | None = None) -> Stream:
        """A predictor for data that arrive one timestep at a time; the state is an array.

        Args:
            window: The maximum number of timesteps of a sequence, for models with causal attention.
            sequences: The names of the inputs that are sequences; None decides by their shapes.

        Returns:
            A `nbkeras.inference.Stream`: start with `state = stream.initial(batch)`, then call `y, state = stream(x, state)`.

        Raises:
            ValueError: for a model that cannot run one timestep at a time; the message names the layer and says why.

        Example:
            >>> model = keras.Sequential([keras.Input((None, 3)), layers.LSTM(4)])
            >>> stream = model.stream()
            >>> state = stream.initial(batch=2)
            >>> y, state = stream(np.ones((2, 3)), state)  # one step of two sequences
            >>> y.shape, state.shape
            ((2, 4), (2, 8))
        """
        return _stream.Stream(self, window, sequences)

    def quantize(
        self,
        mode: Any = None,
        config: Any = None,
        filters: Any = None,
        *,
        type_check: bool = True,
        beyond_keras: bool = False,
    ) -> None:
        """Convert kernels to integers with scales: 8 bits take a quarter of the file size and memory, 4 bits about an eighth.

        As in Keras, it quantizes Dense, EinsumDense, Embedding and ReversibleEmbedding, also inside other layers. Their products
        quantize each row of the input too. Quantized kernels can no longer be trained; biases and other layers can.

        Args:
            mode: 'int8', 'int4', 'gptq', 'awq' or 'float8'. 'gptq' and 'awq' need a configuration with samples; 'float8' keeps
                the kernels of Dense and EinsumDense, and trains them with numbers rounded to 8 bits.
            config: A configuration of `quantizers`, such as `Int4QuantizationConfig`, instead of `mode` or in addition. Without
                an activation_quantizer the inputs of products stay floats.
            filters: One or several regular expressions that select layers by name (one match is enough), or a function of a
                layer that returns True to select it.
            type_check: Whether to skip your own subclasses of nbkeras layers, as Keras does.
            beyond_keras: Whether to quantize convolutions and recurrent layers too; docs/quantization.md says which of their
                inputs stay floats. Keras has no such quantized layers, and cannot read a file with them.

        Raises:
            ValueError: for an unknown mode, a model without weights, and layers that are already quantized.

        Example:
            >>> model = keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dense(2)])
            >>> model.quantize("int8")
            >>> [weight.dtype.name for weight in model.layers[0].weights]
            ['float32', 'int8', 'float32']
        """
        _quantization.quantize_model(self, mode, config, filters, type_check, beyond_keras)
        if self.optimizer is not None and self.optimizer.built:  # the optimizer's state is for the old weights
            for weight in self.weights:
                weight.move_out()
            self.optimizer = type(self.optimizer).from_config(self.optimizer.get_config())
            self._reset_steps()

    def get_compile_config(self) -> dict[str, Any] | None:
        """The arguments of `compile` in a form for JSON.

        Returns:
            A dict for `compile_from_config`; None before `compile`. Also None, with a warning, if an argument has
            no name.

        Example:
            >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> model.compile("sgd", loss="mse")
            >>> model.get_compile_config()["loss"]
            'mse'
        """
        return _compilation.compile_config(self) if self.compiled else None

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Call `compile` with the arguments that `get_compile_config` returned.

        Args:
            config: The result of `get_compile_config`, of this model or of another one.

        Example:
            >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> model.compile("sgd", loss="mse")
            >>> other = keras.Sequential([layers.Dense(2, input_shape=(3,))])
            >>> other.compile_from_config(model.get_compile_config())
            >>> other.loss
            'mse'
        """
        self._compile_as_saved(_compilation.read_compile_config(config))
        if self.compiled and self.built and self.optimizer is not None:
            self.optimizer.build(self.trainable_weights)

    def _compile_from_file(self, config: dict[str, Any]) -> None:
        """Compile with a file's arguments; the optimizer is built only if the file has its state."""
        if self._overrides("compile_from_config"):
            self.compile_from_config(config)
        else:
            self._compile_as_saved(_compilation.read_compile_config(config))

    def _compile_as_saved(self, arguments: dict[str, Any]) -> None:
        """Call `compile`. Warn if a subclass overrides it and does not take these arguments."""
        if self._overrides("compile"):
            try:
                inspect.signature(self.compile).bind(**arguments)
            except TypeError as error:
                warn(
                    f"the model is not compiled: the compile method of {type(self).__name__} does not take what "
                    f"get_compile_config wrote ({error}). Call compile after loading, or define get_compile_config and "
                    "compile_from_config in the class"
                )
                return
        self.compile(**arguments)

    def _has_no_get_config(self) -> bool:  # a model that inherits __init__ has no other arguments
        return not self._overrides("get_config") and type(self).__init__ is not Model.__init__


set_by_init(Model, "_graph")
layers.register(Model, "Functional")
layers.publish(Model, "keras.src.models.functional", "Functional")
