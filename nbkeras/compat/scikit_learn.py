"""Keras 2's `keras.wrappers.scikit_learn`: estimators of scikit-learn around a function that builds a Sequential."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.data.encoding import to_categorical
from nbkeras.models import Sequential

_PREDICT_CLASSES = ("x", "batch_size", "verbose")  # the arguments of Keras 2's predict_classes and predict_proba


class BaseWrapper:
    """An estimator; build_fn(**sk_params) returns a compiled model. Other sk_params are arguments of fit, predict, evaluate.

    build_fn: a function or another callable object; None: a subclass defines `__call__`. ValueError for parameters that neither
    build_fn nor the model's methods accept.
    """

    _estimator_type = ""

    def __init__(self, build_fn: Callable | None = None, **sk_params):
        self.build_fn = build_fn
        self.sk_params = sk_params
        self.check_params(sk_params)

    def _builder(self) -> Callable:
        return self if self.build_fn is None else self.build_fn  # type: ignore[return-value]

    def check_params(self, params: dict[str, Any]) -> None:
        """ValueError for a name that neither build_fn nor the model's methods accept."""
        methods = (Sequential.fit, Sequential.predict, Sequential.evaluate, self._builder())
        known = {name for method in methods for name in _parameters(method)}
        for name in params:
            if name not in known:
                raise ValueError(f"{name} is not a legal parameter")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters, including build_fn."""
        return copy.deepcopy(self.sk_params) | {"build_fn": self.build_fn}

    def set_params(self, **params):
        """Set some of the parameters."""
        self.check_params({name: value for name, value in params.items() if name != "build_fn"})
        self.build_fn = params.pop("build_fn", self.build_fn)
        self.sk_params.update(params)
        return self

    def filter_sk_params(self, fn: Any, override: dict[str, Any] | None = None) -> dict[str, Any]:
        """The parameters that a function accepts, and `override`; a tuple is a list of parameter names."""
        names = fn if isinstance(fn, tuple) else _parameters(fn)
        return {name: value for name, value in self.sk_params.items() if name in names} | (override or {})

    def fit(self, x, y, **kwargs):
        """Build a model, train it and return its History. For categorical_crossentropy class numbers become one-hot rows."""
        self.model = self._builder()(**self.filter_sk_params(self._builder()))
        if _is_categorical(self.model.loss) and np.ndim(y) != 2:
            y = to_categorical(y)
        return self.model.fit(x, y, **(copy.deepcopy(self.filter_sk_params(Sequential.fit)) | kwargs))

    def __sklearn_tags__(self) -> Any:
        """The tags of the estimator; scikit-learn calls this from version 1.6 on."""
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
    """A classifier; y holds classes of any type, also as a column, or one-hot rows."""

    _estimator_type = "classifier"

    def fit(self, x, y, sample_weight=None, **kwargs):
        """Build a model, train it and return its History."""
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
        """The classes of samples: (n,), or (n, 1) if the model has one output for two classes."""
        outputs = self.model.predict(x, **self.filter_sk_params(_PREDICT_CLASSES, kwargs))
        return self.classes_[outputs.argmax(-1) if outputs.shape[-1] > 1 else (outputs > 0.5).astype(np.int32)]

    def predict_proba(self, x, **kwargs) -> np.ndarray:
        """The probabilities, (n, classes)."""
        outputs = self.model.predict(x, **self.filter_sk_params(_PREDICT_CLASSES, kwargs))
        return np.hstack([1 - outputs, outputs]) if outputs.shape[1] == 1 else outputs

    def score(self, x, y, **kwargs) -> float:
        """The accuracy; ValueError if the model was compiled without that metric."""
        y = np.searchsorted(self.classes_, y)
        if _is_categorical(self.model.loss) and y.ndim != 2:
            y = to_categorical(y)
        kwargs = self.filter_sk_params(Sequential.evaluate, kwargs)
        results = self.model.evaluate(x, y, **kwargs, return_dict=True)
        for name in ("accuracy", "acc"):
            if name in results:
                return results[name]
        raise ValueError(
            "The model is not configured to compute accuracy. You should pass `metrics=['accuracy']` to "
            "`model.compile()`."
        )


class KerasRegressor(BaseWrapper):
    """A regressor."""

    _estimator_type = "regressor"

    def predict(self, x, **kwargs) -> np.ndarray:
        """The outputs; (n,) if the model has one output unit."""
        outputs = self.model.predict(x, **self.filter_sk_params(Sequential.predict, kwargs))
        return outputs[..., 0] if outputs.shape[-1] == 1 else outputs

    def score(self, x, y, **kwargs) -> float:
        """The negative loss."""
        loss = self.model.evaluate(x, y, **self.filter_sk_params(Sequential.evaluate, kwargs))
        return -(loss[0] if isinstance(loss, list) else loss)


def _parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def _is_categorical(loss: Any) -> bool:
    name = getattr(loss, "name", getattr(loss, "__name__", loss))
    return name == "categorical_crossentropy"
