"""Keras 2's `keras.wrappers.scikit_learn`: scikit-learn estimators around a function that builds a Model."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.data.encoding import to_categorical
from nbkeras.training.model import Model

_PREDICT_CLASSES = ("x", "batch_size", "verbose")  # the arguments of Keras 2's predict_classes and predict_proba


class BaseWrapper:
    """The base class of Keras 2's scikit-learn estimators. Only Keras 2 has them: use `nbkeras.wrappers`.

    Args:
        build_fn: A function, or another callable object, that returns a compiled model; None: a subclass
            defines `__call__`.
        **sk_params: Arguments of build_fn, and of the model's fit, predict and evaluate.

    Raises:
        ValueError: for parameters that neither build_fn nor the model's methods accept.
    """

    _estimator_type = ""

    def __init__(self, build_fn: Callable | None = None, **sk_params):
        self.build_fn = build_fn
        self.sk_params = sk_params
        self.check_params(sk_params)

    def _builder(self) -> Callable:
        return self if self.build_fn is None else self.build_fn  # type: ignore[return-value]

    def check_params(self, params: dict[str, Any]) -> None:
        """Check the names of parameters.

        Args:
            params: A dict of parameters.

        Raises:
            ValueError: for a name that neither build_fn nor the model's methods accept.
        """
        methods = (Model.fit, Model.predict, Model.evaluate, self._builder())
        known = {name for method in methods for name in _parameters(method)}
        for name in params:
            if name not in known:
                raise ValueError(f"{name} is not a legal parameter")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters, including build_fn.

        Args:
            deep: Accepted and ignored.
        """
        return copy.deepcopy(self.sk_params) | {"build_fn": self.build_fn}

    def set_params(self, **params):
        """Set some of the parameters.

        Args:
            **params: The parameters by name.

        Returns:
            The estimator.
        """
        self.check_params({name: value for name, value in params.items() if name != "build_fn"})
        self.build_fn = params.pop("build_fn", self.build_fn)
        self.sk_params.update(params)
        return self

    def filter_sk_params(self, fn: Any, override: dict[str, Any] | None = None) -> dict[str, Any]:
        """The parameters that a function accepts.

        Args:
            fn: The function, or a tuple of parameter names.
            override: A dict of parameters to use instead or in addition.

        Returns:
            A dict.
        """
        names = fn if isinstance(fn, tuple) else _parameters(fn)
        return {name: value for name, value in self.sk_params.items() if name in names} | (override or {})

    def fit(self, x, y, **kwargs):
        """Build a model and train it.

        Args:
            x: The inputs.
            y: The targets; for categorical_crossentropy class numbers become one-hot rows.
            **kwargs: Further arguments of the model's `fit`.

        Returns:
            The History of the training.
        """
        self.model = self._builder()(**self.filter_sk_params(self._builder()))
        y = _encoded(self.model.loss, y)
        return self.model.fit(x, y, **(copy.deepcopy(self.filter_sk_params(Model.fit)) | kwargs))

    def __sklearn_tags__(self) -> Any:
        """The tags of the estimator; scikit-learn 1.6 and later call this."""
        from sklearn.utils import ClassifierTags, RegressorTags, Tags, TargetTags

        classifies = self._estimator_type == "classifier"
        return Tags(
            estimator_type=self._estimator_type,
            target_tags=TargetTags(required=True),
            classifier_tags=ClassifierTags() if classifies else None,
            regressor_tags=None if classifies else RegressorTags(),
        )

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "model")


class KerasClassifier(BaseWrapper):
    """Keras 2's scikit-learn classifier. Only Keras 2 has it: use `nbkeras.wrappers.SKLearnClassifier`.

    Args:
        build_fn: A function that returns a compiled model; None: a subclass defines `__call__`.
        **sk_params: Arguments of build_fn, and of the model's fit, predict and evaluate.

    Example:
        >>> from nbkeras.compat.keras2.scikit_learn import KerasClassifier
        >>> def build(units=1):
        ...     model = keras.Sequential([layers.Dense(units, activation="sigmoid", input_shape=(1,))])
        ...     model.compile(keras.optimizers.Adam(0.1), "binary_crossentropy")
        ...     return model
        >>> x, y = np.array([[0.0], [0.1], [0.9], [1.0]]), np.array([0, 0, 1, 1])
        >>> classifier = KerasClassifier(build, epochs=100, verbose=0)
        >>> history = classifier.fit(x, y)
        >>> classifier.predict([[0.0], [1.0]]).ravel()
        array([0, 1])
    """

    _estimator_type = "classifier"

    def fit(self, x, y, sample_weight=None, **kwargs):
        """Build a model and train it.

        Args:
            x: The inputs.
            y: Classes of any type, also as a column, or one-hot rows.
            sample_weight: Weights of the samples, or None.
            **kwargs: Further arguments of the model's `fit`.

        Returns:
            The History of the training.
        """
        y = np.array(y)
        if y.ndim not in (1, 2):
            raise ValueError(f"Invalid shape for y: {y.shape}")
        if y.ndim == 2 and y.shape[1] > 1:
            self.classes_ = np.arange(y.shape[1])
        else:
            self.classes_ = np.unique(y)
            y = np.searchsorted(self.classes_, y)
        self.n_classes_ = len(self.classes_)
        if sample_weight is not None:
            kwargs["sample_weight"] = sample_weight
        return super().fit(x, y, **kwargs)

    def predict(self, x, **kwargs) -> np.ndarray:
        """The classes of samples: (n,), or (n, 1) if the model has one output for two classes.

        Args:
            x: The inputs.
            **kwargs: Further arguments of the model's `predict`.
        """
        outputs = self.model.predict(x, **self.filter_sk_params(_PREDICT_CLASSES, kwargs))
        return self.classes_[outputs.argmax(-1) if outputs.shape[-1] > 1 else (outputs > 0.5).astype(np.int32)]

    def predict_proba(self, x, **kwargs) -> np.ndarray:
        """The probabilities, (n, classes).

        Args:
            x: The inputs.
            **kwargs: Further arguments of the model's `predict`.
        """
        outputs = self.model.predict(x, **self.filter_sk_params(_PREDICT_CLASSES, kwargs))
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def score(self, x, y, **kwargs) -> float:
        """The accuracy.

        Args:
            x: The inputs.
            y: The classes.
            **kwargs: Further arguments of the model's `evaluate`.

        Raises:
            ValueError: if the model was compiled without the metric accuracy.
        """
        y = _encoded(self.model.loss, np.searchsorted(self.classes_, y))
        kwargs = self.filter_sk_params(Model.evaluate, kwargs)
        results = self.model.evaluate(x, y, **kwargs, return_dict=True)
        for name in ("accuracy", "acc"):
            if name in results:
                return results[name]
        raise ValueError(
            "The model is not configured to compute accuracy. You should pass `metrics=['accuracy']` to "
            "`model.compile()`."
        )


class KerasRegressor(BaseWrapper):
    """Keras 2's scikit-learn regressor. Only Keras 2 has it: use `nbkeras.wrappers.SKLearnRegressor`.

    Args:
        build_fn: A function that returns a compiled model; None: a subclass defines `__call__`.
        **sk_params: Arguments of build_fn, and of the model's fit, predict and evaluate.

    Example:
        >>> from nbkeras.compat.keras2.scikit_learn import KerasRegressor
        >>> def build():
        ...     model = keras.Sequential([layers.Dense(1, kernel_initializer="ones", input_shape=(2,))])
        ...     model.compile("sgd", "mse")
        ...     return model
        >>> regressor = KerasRegressor(build, epochs=1, verbose=0)
        >>> history = regressor.fit(np.ones((4, 2)), np.full(4, 2.0))
        >>> regressor.predict([[1.0, 1.0]])
        array([2.], dtype=float32)
    """

    _estimator_type = "regressor"

    def predict(self, x, **kwargs) -> np.ndarray:
        """The outputs, (n,) if the model has one output unit.

        Args:
            x: The inputs.
            **kwargs: Further arguments of the model's `predict`.
        """
        outputs = self.model.predict(x, **self.filter_sk_params(Model.predict, kwargs))
        return outputs[..., 0] if outputs.shape[-1] == 1 else outputs

    def score(self, x, y, **kwargs) -> float:
        """The negative loss.

        Args:
            x: The inputs.
            y: The targets.
            **kwargs: Further arguments of the model's `evaluate`.
        """
        loss = self.model.evaluate(x, y, **self.filter_sk_params(Model.evaluate, kwargs))
        return -(loss[0] if isinstance(loss, list) else loss)


def _parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def _encoded(loss: Any, y: Any) -> Any:
    """Class numbers as one-hot rows for categorical_crossentropy."""
    name = getattr(loss, "name", getattr(loss, "__name__", loss))
    return to_categorical(y) if name == "categorical_crossentropy" and np.ndim(y) != 2 else y
