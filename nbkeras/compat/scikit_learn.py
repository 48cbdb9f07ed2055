"""Keras 2's `keras.wrappers.scikit_learn`: a function that builds a Sequential, as an estimator of scikit-learn."""

import copy
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.data.encoding import to_categorical
from nbkeras.models import Sequential

_PREDICT_CLASSES = ("x", "batch_size", "verbose")  # what Keras 2's predict_classes and predict_proba took


class BaseWrapper:
    """build_fn(**some of sk_params) gives a compiled model; the other sk_params are arguments of fit, predict, evaluate.

    build_fn: a function or an object that can be called; None: a subclass defines `__call__`. ValueError for parameters
    that neither of them takes.
    """

    _estimator_type = ""

    def __init__(self, build_fn: Callable | None = None, **sk_params):
        self.build_fn = build_fn
        self.sk_params = sk_params
        self.check_params(sk_params)

    def _builder(self) -> Callable:
        return self if self.build_fn is None else self.build_fn  # type: ignore[return-value]

    def check_params(self, params: dict[str, Any]) -> None:
        """ValueError for a name that neither the building function nor the model's methods take."""
        methods = (Sequential.fit, Sequential.predict, Sequential.evaluate, self._builder())
        known = {name for method in methods for name in _parameters(method)}
        for name in params:
            if name not in known:
                raise ValueError(f"{name} is not a legal parameter")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """All parameters, build_fn too."""
        return copy.deepcopy(self.sk_params) | {"build_fn": self.build_fn}

    def set_params(self, **params):
        """Set some of the parameters."""
        self.check_params({name: value for name, value in params.items() if name != "build_fn"})
        self.build_fn = params.pop("build_fn", self.build_fn)
        self.sk_params.update(params)
        return self

    def filter_sk_params(self, fn: Any, override: dict[str, Any] | None = None) -> dict[str, Any]:
        """Those parameters that a function takes (a tuple stands for its parameters' names), and `override`."""
        names = fn if isinstance(fn, tuple) else _parameters(fn)
        return {name: value for name, value in self.sk_params.items() if name in names} | (override or {})

    def fit(self, x, y, **kwargs):
        """Build a model and train it: its History. Class numbers become one-hot rows for categorical_crossentropy."""
        self.model = self._builder()(**self.filter_sk_params(self._builder()))
        if _is_categorical(self.model.loss) and np.ndim(y) != 2:
            y = to_categorical(y)
        return self.model.fit(x, y, **(copy.deepcopy(self.filter_sk_params(Sequential.fit)) | kwargs))

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn from 1.6 on asks of an estimator (so it is installed when this is called)."""
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
    """A classifier: classes of any kind, in column vectors too, or one-hot rows."""

    _estimator_type = "classifier"

    def fit(self, x, y, sample_weight=None, **kwargs):
        """Build a model and train it: its History."""
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
        """The classes of samples: (n,), or (n, 1) where the model has one output for two classes."""
        outputs = self.model.predict(x, **self.filter_sk_params(_PREDICT_CLASSES, kwargs))
        return self.classes_[outputs.argmax(-1) if outputs.shape[-1] > 1 else (outputs > 0.5).astype(np.int32)]

    def predict_proba(self, x, **kwargs) -> np.ndarray:
        """Probabilities (n, classes)."""
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
        """The outputs, (n,) where the model has one."""
        outputs = self.model.predict(x, **self.filter_sk_params(Sequential.predict, kwargs))
        return outputs[..., 0] if outputs.shape[-1] == 1 else outputs

    def score(self, x, y, **kwargs) -> float:
        """Minus the loss."""
        loss = self.model.evaluate(x, y, **self.filter_sk_params(Sequential.evaluate, kwargs))
        return -(loss[0] if isinstance(loss, list) else loss)


def _parameters(function: Any) -> set[str]:
    return set(inspect.signature(function).parameters)


def _is_categorical(loss: Any) -> bool:
    name = getattr(loss, "name", getattr(loss, "__name__", loss))
    return name == "categorical_crossentropy"
