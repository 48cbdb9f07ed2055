"""Floor 3: FeatureSpace, the preprocessing of all columns of a table; it learns from a table and becomes a part of a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nbkeras import config, layers, ops
from nbkeras.building.layer import Layer
from nbkeras.building.layer import layers as registry
from nbkeras.engine import load_budget
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.naming import unique_name
from nbkeras.preprocessing.features.columns import batches, check_mean, columns
from nbkeras.preprocessing.features.missing import ERROR, Feature
from nbkeras.saving.files import save_model

_MODULE = "keras.src.layers.preprocessing.feature_space"  # Keras's, in files


class TFDIdentity(layers.Identity):
    """The preprocessing of plain numbers: none. Files of Keras name this class."""


class TFDConcat(layers.Concatenate):
    """Joins the encoded features. Files of Keras name this class."""


class Cross:
    """A feature made of several: the combination of their values, hashed into `crossing_dim` numbers."""

    def __init__(self, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot"):
        self.feature_names = tuple(feature_names)
        self.crossing_dim = crossing_dim
        self.output_mode = one_of("FeatureSpace.cross", "output_mode", output_mode, ("int", "one_hot"))

    @property
    def name(self) -> str:
        """The names of the features, joined."""
        return "_X_".join(self.feature_names)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {
            "feature_names": list(self.feature_names),
            "crossing_dim": self.crossing_dim,
            "output_mode": self.output_mode,
        }


def _written(item: Any) -> dict[str, Any]:
    name = type(item).__name__
    return {"module": _MODULE, "class_name": name, "config": item.get_config(), "registered_name": name}


def _read(cls: type, item: Any) -> Any:
    """The Feature or Cross of a configuration; other values unchanged."""
    if not isinstance(item, Mapping):
        return item
    if item.get("class_name") != cls.__name__ or not isinstance(item.get("config"), Mapping):
        raise ValueError(f"FeatureSpace: expected the configuration of a {cls.__name__}, received {briefly(item)}")
    return cls(**item["config"])


class FeatureSpace(Layer):
    """Encodes the columns of a table as numbers, by a type for each column, and crosses of columns.

    The types are 'float', 'float_rescaled', 'float_normalized', 'float_discretized', 'integer_categorical',
    'string_categorical', 'integer_hashed' and 'string_hashed', each also a method with options; `FeatureSpace.feature` takes any
    layer. `adapt` learns vocabularies, means and bins from a table. A call encodes a table, or one row of it.

    A missing value (None, NaN, NaT, pandas.NA) is an error that names the column and the rows, unless the option `missing` of its
    type says what it becomes: 'mean' or a number for floats, 'oov' for integers and strings. 'mean' is the mean of the values
    that `adapt` was given; it adds an output 'NAME_missing' behind that of the feature, 1 where the value was missing. 'oov' is
    the index for unknown values.

    Args:
        features: The type of each feature, by name: a dict of names of types, or of results of these methods.
        output_mode ('concat' or 'dict'): 'concat': one vector for each row, features in the order of their names, then crosses;
            'dict': the encoded features by name.
        crosses: Tuples of names of features, or results of `FeatureSpace.cross`.
        crossing_dim: The number of values of a cross that is a tuple.
        hashing_dim: The number of values of a hashed feature that is named by its type.
        num_discretization_bins: The number of bins of a discretized feature that is named by its type.
        name: The name of the layer.

    Raises:
        ValueError: for no features, an unknown type, and a cross of unknown features.

    Example:
        >>> table = {"size": [1.0, 2.0, 3.0], "colour": ["red", "blue", "red"]}
        >>> space = keras.utils.FeatureSpace({"size": "float_normalized", "colour": "string_categorical"})
        >>> space.adapt(table)
        >>> space(table).numpy().round(2)  # the colour first: unknown, red, blue; then the size
        array([[ 0.  ,  1.  ,  0.  , -1.22],
               [ 0.  ,  0.  ,  1.  ,  0.  ],
               [ 0.  ,  1.  ,  0.  ,  1.22]], dtype=float32)
        >>> space({"size": 2.0, "colour": "red"}).numpy()
        array([0., 1., 0., 0.], dtype=float32)
    """

    compiled = False  # it is saved as a model is, and has no training

    def __init__(
        self,
        features: Mapping[str, Any],
        output_mode: str = "concat",
        crosses: Sequence[Any] | None = None,
        crossing_dim: int = 32,
        hashing_dim: int = 32,
        num_discretization_bins: int = 32,
        name: str | None = None,
    ):
        super().__init__(name=name)
        if not isinstance(features, Mapping) or not features:
            raise ValueError(f"FeatureSpace needs a dict of features, received {briefly(features)}")
        self.output_mode = one_of("FeatureSpace", "output_mode", output_mode, ("concat", "dict"))
        self.crossing_dim = crossing_dim
        self.hashing_dim = hashing_dim
        self.num_discretization_bins = num_discretization_bins
        self.features = {each: self._feature(each, value) for each, value in features.items()}
        self.crosses = [self._cross(cross) for cross in crosses or ()]
        self.preprocessors = {each: feature.preprocessor for each, feature in self.features.items()}
        fillers = {each: feature.filler(each) for each, feature in self.features.items()}
        self.fillers = {each: filler for each, filler in fillers.items() if filler is not None}
        self._flags = {f"{each}_missing": each for each, filler in self.fillers.items() if filler.value is None}
        taken = [each for each in self._flags if each in self.features]
        if taken:
            raise ValueError(
                f"FeatureSpace: missing='mean' adds outputs of the names {taken}, which features have: give these another name"
            )
        self.crossers = {
            cross.name: layers.HashedCrossing(cross.crossing_dim, name=cross.name) for cross in self.crosses
        }
        for each, layer in {**self.preprocessors, **self.crossers}.items():
            count = getattr(layer, "num_bins", None) or 0
            load_budget.take(16 * count, f"feature {each!r} with {count} indicators")
        self.one_hot_encoders: dict[str, Layer] = {}
        self.concat: Layer | None = None
        self._inputs: dict[str, Any] | None = None
        self._outputs: tuple[Any, Any] | None = None  # the preprocessed and the encoded symbolic features
        self._is_adapted = False

    def _feature(self, name: str, value: Any) -> Feature:
        value = _read(Feature, value)
        if isinstance(value, Feature):
            return value
        options = {
            "float_discretized": {"num_bins": self.num_discretization_bins},
            "integer_hashed": {"num_bins": self.hashing_dim},
            "string_hashed": {"num_bins": self.hashing_dim},
        }
        return getattr(self, one_of("FeatureSpace", f"the type of {name!r}", value, _TYPES))(
            name=name, **options.get(value, {})
        )

    def _cross(self, value: Any) -> Cross:
        value = _read(Cross, value)
        if not isinstance(value, Cross):
            if not self.crossing_dim:
                raise ValueError(f"FeatureSpace: crosses need crossing_dim, received {briefly(self.crossing_dim)}")
            value = Cross(value, self.crossing_dim)
        unknown = [name for name in value.feature_names if name not in self.features]
        if unknown:
            raise ValueError(f"FeatureSpace: a cross names {unknown}, expected names of features {list(self.features)}")
        return value

    # -------------------- the types of features --------------------

    @classmethod
    def cross(cls, feature_names: Sequence[str], crossing_dim: int, output_mode: str = "one_hot") -> Cross:
        """A feature made of several: each combination of their values has a number, by a hash.

        Args:
            feature_names: The names of the features, whose preprocessed values must be integers or strings.
            crossing_dim: The number of values.
            output_mode: 'one_hot' for indicators, 'int' for the number.

        Returns:
            An element for `crosses`.

        Example:
            >>> cross = keras.utils.FeatureSpace.cross(("a", "b"), crossing_dim=8)
            >>> space = keras.utils.FeatureSpace({"a": "integer_hashed", "b": "integer_hashed"}, crosses=[cross])
            >>> space({"a": [1, 2], "b": [3, 4]}).shape
            (2, 72)
        """
        return Cross(feature_names, crossing_dim, output_mode)

    @classmethod
    def feature(cls, dtype: str, preprocessor: Layer, output_mode: str, missing: Any = ERROR) -> Feature:
        """A feature that any layer preprocesses.

        Args:
            dtype: The dtype of the values: 'float32', 'int32' or 'string'.
            preprocessor: The layer; it is adapted if it has a method `adapt`.
            output_mode: 'float' for floats, 'int' for integers, which 'concat' refuses, and 'one_hot' for indicators of the
                layer's integers.
            missing: What a missing value becomes: 'mean' or a number for floats, 'oov' or an integer for integers, 'oov' for
                strings; 'error' for an error.

        Returns:
            A value for `features`.

        Example:
            >>> words = layers.TextVectorization(output_mode="multi_hot")
            >>> text = keras.utils.FeatureSpace.feature("string", words, "float")
            >>> space = keras.utils.FeatureSpace({"text": text})
            >>> space.adapt({"text": ["a b", "b"]})
            >>> space({"text": "b c"}).numpy()  # unknown, b, a
            array([1., 1., 0.], dtype=float32)
        """
        return Feature(dtype, preprocessor, output_mode, missing)

    @classmethod
    def float(cls, name: str | None = None, missing: Any = ERROR) -> Feature:
        """Numbers as they are; integers and booleans become floats.

        Args:
            name: The first part of the layer's name.
            missing: What a missing value becomes: 'mean', a number, or 'error' for an error.

        Returns:
            A value for `features`.

        Example:
            >>> space = keras.utils.FeatureSpace({"size": keras.utils.FeatureSpace.float(missing="mean")})
            >>> space.adapt({"size": [1.0, None, 3.0]})
            >>> space({"size": [4.0, None]}).numpy()  # the size, and whether it was missing
            array([[4., 0.],
                   [2., 1.]], dtype=float32)
        """
        return Feature("float32", TFDIdentity(name=_name("float", name), dtype="float32"), "float", missing)

    @classmethod
    def float_rescaled(
        cls, scale: Any = 1.0, offset: Any = 0.0, name: str | None = None, missing: Any = ERROR
    ) -> Feature:
        """Numbers times `scale` plus `offset`.

        Args:
            scale: The factor.
            offset: The number that is added.
            name: The first part of the layer's name.
            missing: What a missing value becomes: 'mean', a number, or 'error' for an error.

        Returns:
            A value for `features`.
        """
        return Feature("float32", layers.Rescaling(scale, offset, name=_name("float_rescaled", name)), "float", missing)

    @classmethod
    def float_normalized(cls, name: str | None = None, missing: Any = ERROR) -> Feature:
        """Numbers minus their mean, divided by their standard deviation.

        Args:
            name: The first part of the layer's name.
            missing: What a missing value becomes: 'mean', a number, or 'error' for an error.

        Returns:
            A value for `features`.
        """
        return Feature("float32", layers.Normalization(-1, name=_name("float_normalized", name)), "float", missing)

    @classmethod
    def float_discretized(
        cls,
        num_bins: int | None,
        bin_boundaries: Any = None,
        output_mode: str = "one_hot",
        name: str | None = None,
        missing: Any = ERROR,
    ) -> Feature:
        """The bin of each number.

        Args:
            num_bins: The number of bins, whose boundaries `adapt` learns; None if they are given.
            bin_boundaries: The boundaries; None to learn them.
            output_mode: 'one_hot' for indicators, 'int' for the number.
            name: The first part of the layer's name.
            missing: What a missing value becomes: 'mean', a number, or 'error' for an error.

        Returns:
            A value for `features`.
        """
        layer = layers.Discretization(bin_boundaries, num_bins, name=_name("float_discretized", name))
        return Feature("float32", layer, output_mode, missing)

    @classmethod
    def integer_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
        missing: Any = ERROR,
    ) -> Feature:
        """The index of an integer in a vocabulary that `adapt` learns.

        Args:
            max_tokens: The maximum number of indices; None for no limit.
            num_oov_indices: The number of indices for unknown integers.
            output_mode: 'one_hot' for indicators, 'int' for the number.
            name: The first part of the layer's name.
            missing: What a missing value becomes: 'oov' (the index for unknown integers), an integer, or 'error'.

        Returns:
            A value for `features`.
        """
        layer = layers.IntegerLookup(max_tokens, num_oov_indices, name=_name("integer_categorical", name))
        return Feature("int32", layer, output_mode, missing)

    @classmethod
    def string_categorical(
        cls,
        max_tokens: int | None = None,
        num_oov_indices: int = 1,
        output_mode: str = "one_hot",
        name: str | None = None,
        missing: Any = ERROR,
    ) -> Feature:
        """The index of a string in a vocabulary that `adapt` learns.

        Args:
            max_tokens: The maximum number of indices; None for no limit.
            num_oov_indices: The number of indices for unknown strings.
            output_mode: 'one_hot' for indicators, 'int' for the number.
            name: The first part of the layer's name.
            missing: What a missing value becomes: 'oov' (the index for unknown strings), or 'error'.

        Returns:
            A value for `features`.
        """
        layer = layers.StringLookup(max_tokens, num_oov_indices, name=_name("string_categorical", name))
        return Feature("string", layer, output_mode, missing)

    @classmethod
    def string_hashed(
        cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None, missing: Any = ERROR
    ) -> Feature:
        """The hash of a string, without a vocabulary.

        Args:
            num_bins: The number of values.
            output_mode: 'one_hot' for indicators, 'int' for the number.
            name: The first part of the layer's name.
            missing: What a missing value becomes: 'oov' (the hash of ''), or 'error'.

        Returns:
            A value for `features`.
        """
        return Feature("string", layers.Hashing(num_bins, name=_name("string_hashed", name)), output_mode, missing)

    @classmethod
    def integer_hashed(
        cls, num_bins: int, output_mode: str = "one_hot", name: str | None = None, missing: Any = ERROR
    ) -> Feature:
        """The hash of an integer, without a vocabulary.

        Args:
            num_bins: The number of values.
            output_mode: 'one_hot' for indicators, 'int' for the number.
            name: The first part of the layer's name.
            missing: What a missing value becomes: 'oov' (the hash of -1), an integer, or 'error'.

        Returns:
            A value for `features`.
        """
        return Feature("int32", layers.Hashing(num_bins, name=_name("integer_hashed", name)), output_mode, missing)

    # -------------------- learning --------------------

    def adapt(self, dataset: Any) -> None:
        """Learn the vocabularies, means and bins from a table. Columns that are no features are ignored.

        Args:
            dataset: A dict of arrays or lists, a DataFrame, a list of dicts; or batches of dicts: a generator, a PyDataset or
                another data set. Of a tuple, as (inputs, targets), the first element is used.

        Raises:
            TypeError: for other data, and for values that are neither numbers nor strings.
            ValueError: if a feature is missing, and for features that `output_mode` cannot join.

        Example:
            >>> space = keras.utils.FeatureSpace({"size": "float_normalized"})
            >>> space.adapt({"size": [1.0, 3.0]})
            >>> space({"size": [1.0, 3.0]}).numpy()
            array([[-1.],
                   [ 1.]], dtype=float32)
        """
        found = batches(dataset, self.features)
        empty = [name for name, parts in found.items() if not any(map(len, parts))]
        if empty:
            raise ValueError(f"FeatureSpace {self.name!r}: adapt needs data, received none for the features {empty}")
        self._build()
        for name in self._adaptable():
            parts, filler = found[name], self.fillers.get(name)
            if filler is not None or isinstance(self.preprocessors[name], layers.Normalization):
                check_mean(name, parts)
            if filler is not None:
                parts = filler.adapt(parts)
            if name in self._to_adapt():
                self.preprocessors[name].adapt(iter(parts))
        self._is_adapted, self._outputs, self.one_hot_encoders = True, None, {}
        self._encoded(columns({name: parts[0][:1] for name, parts in found.items()}, self.features))  # for its errors

    def _adaptable(self) -> list[str]:
        """The features that have something to learn."""
        learning = {*self._to_adapt(), *self._flags.values()}
        return [name for name in self.features if name in learning]

    def _to_adapt(self) -> list[str]:
        """The features whose layers have something to learn: not those that were made with what they would learn."""
        return [
            name
            for name, layer in self.preprocessors.items()
            if hasattr(layer, "adapt")
            and not getattr(getattr(layer, "lookup", layer), "_given", False)
            and getattr(layer, "input_mean", None) is None
            and not (isinstance(layer, layers.Discretization) and layer.num_bins is None)
        ]

    def _build(self) -> None:
        for layer in [*self.preprocessors.values(), *self.fillers.values()]:
            if not layer.built:
                layer.build((None, 1))
        self.built = True

    def _check_adapted(self) -> None:
        if not self._is_adapted and self._adaptable():
            raise ValueError(
                f"FeatureSpace {self.name!r} must learn its features {self._adaptable()} first: call adapt(table)"
            )
        self._build()

    # -------------------- encoding --------------------

    def __call__(self, data: Any) -> Any:
        """Encode a table, or one row of it.

        Args:
            data: A dict of arrays or lists, a DataFrame or a list of dicts; a dict of single values for one row.

        Returns:
            A tensor (rows, n), or a dict of tensors for output_mode 'dict'; without the axis of rows for one row.
        """
        self._check_adapted()
        found = columns(data, self.features)
        is_row = any(np.ndim(column) == 0 for column in found.values())
        shapes = {0: (1, 1), 1: (-1, 1)}
        for name, column in found.items():
            if np.ndim(column) in shapes:
                reshape = np.reshape if isinstance(column, np.ndarray) else ops.reshape
                found[name] = reshape(column, shapes[np.ndim(column)])
        encoded = self._encoded(found)
        if not is_row:
            return encoded
        if self.output_mode == "concat":
            return ops.squeeze(encoded, 0)
        return {name: ops.squeeze(each, 0) if each.shape[0] == 1 else each for name, each in encoded.items()}

    def get_inputs(self) -> dict[str, Any]:
        """The symbolic inputs of a model that begins with the raw features: a dict by name.

        Example:
            >>> space = keras.utils.FeatureSpace({"size": "float", "count": "integer_hashed"})
            >>> outputs = layers.Dense(1)(space.get_encoded_features())
            >>> model = keras.Model(space.get_inputs(), outputs)
            >>> model.predict({"size": np.ones((2, 1)), "count": np.ones((2, 1), "int32")}, verbose=0).shape
            (2, 1)
        """
        self._check_adapted()
        if self._inputs is None:
            self._inputs = {
                name: layers.Input((1,), dtype=feature.dtype, name=name) for name, feature in self.features.items()
            }
        return self._inputs

    def get_preprocessed_features(self) -> dict[str, Any]:
        """The symbolic features after their layers, by name, before they are encoded as indicators.

        Example:
            >>> space = keras.utils.FeatureSpace({"size": "float", "count": "integer_hashed"})
            >>> space.get_preprocessed_features()["count"].dtype
            dtype('int64')
        """
        return self._symbolic()[0]

    def get_encoded_features(self) -> Any:
        """The symbolic encoded features: a tensor, or a dict of tensors for output_mode 'dict'.

        Example:
            >>> space = keras.utils.FeatureSpace({"size": "float", "count": "integer_hashed"})
            >>> space.get_encoded_features().shape
            (None, 33)
        """
        return self._symbolic()[1]

    def _symbolic(self) -> tuple[Any, Any]:
        if self._outputs is None:
            preprocessed = self._preprocessed(self.get_inputs())
            self._outputs = preprocessed, self._merged(preprocessed)
        return self._outputs

    def _preprocessed(self, features: Mapping[str, Any]) -> dict[str, Any]:
        made = {}
        for name, feature in features.items():
            if name in self.fillers:
                feature = self.fillers[name](feature)
                if isinstance(feature, tuple):
                    feature, made[f"{name}_missing"] = feature
            made[name] = self.preprocessors[name](feature)
        return made

    def _encoded(self, features: Mapping[str, Any]) -> Any:
        return self._merged(self._preprocessed(features))

    def _merged(self, features: Mapping[str, Any]) -> Any:
        """Preprocessed features and their crosses, encoded, and joined for output_mode 'concat'."""
        crosses = {
            cross.name: self.crossers[cross.name]([features[name] for name in cross.feature_names])
            for cross in self.crosses
        }
        specs: dict[str, Any] = {**self.features, **{cross.name: cross for cross in self.crosses}}
        order = [*sorted(features, key=lambda name: (self._flags.get(name, name), name)), *sorted(crosses)]
        values = {**features, **crosses}
        encoded = {
            name: self._one_hot(name, values[name])
            if name in specs and specs[name].output_mode == "one_hot"
            else values[name]
            for name in order
        }
        if self.output_mode == "dict":
            return encoded
        for name, value in encoded.items():
            is_indicators = getattr(self.preprocessors.get(name), "_symbolic_dtype", None) is not None
            if is_indicators and value.dtype.kind == "i":
                encoded[name] = ops.cast(value, config.floatx())
            elif value.dtype.kind != "f":
                layer = {**self.preprocessors, **self.crossers}[name]
                remedy = (
                    "let its layer return floats"
                    if _cardinality(layer) is None
                    else "give its type output_mode='one_hot'"
                )
                raise ValueError(
                    f"FeatureSpace {self.name!r} cannot join its features, because {name!r} has dtype {value.dtype}: {remedy}, "
                    "or make the FeatureSpace with output_mode='dict'"
                )
        if self.concat is None:
            self.concat = TFDConcat()
        return self.concat(list(encoded.values())) if len(encoded) > 1 else next(iter(encoded.values()))

    def _one_hot(self, name: str, value: Any) -> Any:
        """The indicators of a feature's integers; several integers of a row give several indicators."""
        if value.dtype.kind not in "iu":
            raise ValueError(
                f"feature {name!r} has output_mode 'one_hot', so its layer must return integers, received dtype {value.dtype}"
            )
        if name not in self.one_hot_encoders:
            layer = {**self.preprocessors, **self.crossers}[name]
            count = _cardinality(layer)
            if count is None:
                raise ValueError(
                    f"feature {name!r} has output_mode 'one_hot', but its layer, {type(layer).__name__}, does not say how many "
                    "integers it returns: let it return floats and use output_mode='float', or use output_mode='int' for the "
                    "feature and 'dict' for the FeatureSpace"
                )
            self.one_hot_encoders[name] = layers.CategoryEncoding(count, "multi_hot")
        return self.one_hot_encoders[name](value)

    # -------------------- files --------------------

    def save(self, filepath: Any) -> None:
        """Write the FeatureSpace to a file. `keras.models.load_model` of nbkeras and Keras 3 reads it.

        Args:
            filepath: A name that ends in .keras, or a binary file.

        Raises:
            ValueError: for another name.

        Example:
            >>> space = keras.utils.FeatureSpace({"size": "float_normalized"})
            >>> space.adapt({"size": [1.0, 3.0]})
            >>> space.save("space.keras")
            >>> keras.models.load_model("space.keras")({"size": 3.0}).numpy()
            array([1.], dtype=float32)
        """
        if isinstance(filepath, str) and not filepath.endswith(".keras"):
            raise ValueError(
                f"a FeatureSpace is saved in a file whose name ends in .keras, received {briefly(filepath)}"
            )
        self._check_adapted()
        save_model(self, filepath)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments, with the layers' configurations; without what Normalization layers learned."""
        return {
            "features": {name: _written(feature) for name, feature in self.features.items()},
            "output_mode": self.output_mode,
            "crosses": [_written(cross) for cross in self.crosses],
            "crossing_dim": self.crossing_dim,
            "hashing_dim": self.hashing_dim,
            "num_discretization_bins": self.num_discretization_bins,
        }

    def get_build_config(self) -> dict[str, Any]:
        """The shapes for which the layers of the features were built, by name."""
        return {name: layer.get_build_config() for name, layer in self.preprocessors.items()}

    def build_from_config(self, config: dict[str, Any]) -> None:
        """Build the layers of the features; what they learned follows from a file.

        Args:
            config: A result of `get_build_config`.
        """
        for name, shapes in config.items():
            if shapes:
                self.preprocessors[name].build_from_config(shapes)
        for filler in self.fillers.values():
            filler.build((None, 1))
        self._is_adapted = True


def _name(kind: str, name: str | None) -> str:
    return f"{name or unique_name(kind)}_preprocessor"


def _cardinality(layer: Any) -> int | None:
    """The number of integers that a layer returns; None if it does not say."""
    if isinstance(layer, layers.IntegerLookup | layers.StringLookup):
        return layer.vocabulary_size()
    if isinstance(layer, layers.Discretization):
        return layer.num_bins or len(layer.bin_boundaries) + 1
    return layer.num_bins if type(layer) in (layers.Hashing, layers.HashedCrossing) else None


_TYPES = (
    "float",
    "float_rescaled",
    "float_normalized",
    "float_discretized",
    "integer_categorical",
    "string_categorical",
    "integer_hashed",
    "string_hashed",
)
registry.publish(FeatureSpace, "keras.utils", "FeatureSpace")
registry.publish(TFDIdentity, _MODULE, "TFDIdentity")
registry.publish(TFDConcat, _MODULE, "TFDConcat")
