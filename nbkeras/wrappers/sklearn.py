"""Keras 3's wrappers: a compiled model, or a function that makes one, as a scikit-learn estimator.

Only this module imports scikit-learn at its top, because its classes extend scikit-learn's. It is imported at first use.
"""

import copy
from typing import Any

import numpy as np

from nbkeras.engine.annotations import briefly
from nbkeras.engine.user_errors import optional_import
from nbkeras.models import clone_model
from nbkeras.training.model import Model

with optional_import("nbkeras.wrappers needs scikit-learn 1.6 or newer: pip install scikit-learn"):
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin, TransformerMixin
    from sklearn.utils import get_tags
    from sklearn.utils.multiclass import type_of_target
    from sklearn.utils.validation import check_is_fitted, validate_data


class _Estimator(BaseEstimator):
    """The base class of the wrappers, which document its arguments."""

    def __init__(
        self, model, warm_start: bool = False, model_kwargs: dict | None = None, fit_kwargs: dict | None = None
    ):
        self.model = model
        self.warm_start = warm_start
        self.model_kwargs = model_kwargs
        self.fit_kwargs = fit_kwargs

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.non_deterministic = tags.target_tags.multi_output = True
        return tags

    def __sklearn_clone__(self) -> Any:
        """Clone the estimator; scikit-learn's clone would copy the model by its arguments."""
        given = self.get_params(deep=False)
        model = given.pop("model")
        return type(self)(clone_model(model) if isinstance(model, Model) else model, **copy.deepcopy(given))

    def fit(self, X, y, **kwargs):
        """Train a new model.

        Args:
            X: The inputs, an array (samples, features).
            y: The targets.
            **kwargs: Further arguments of `model.fit`.

        Returns:
            The estimator, with the attributes model_ and history_.

        Raises:
            RuntimeError: if the model is not compiled.
        """
        X, y = validate_data(self, X, y, multi_output=get_tags(self).target_tags.multi_output)
        options = self._options(y, (self.fit_kwargs or {}) | kwargs)
        y = self._encode(y)
        given = self.model
        model = clone_model(given) if isinstance(given, Model) else given(X=X, y=y, **(self.model_kwargs or {}))
        if not model.compiled:
            raise RuntimeError("the model must be compiled before a wrapper can fit it: model.compile(optimizer, loss)")
        self.history_ = model.fit(X, y, **options)
        self.model_ = model
        return self

    def predict(self, X) -> np.ndarray:
        """The model's outputs, in the form of the y of `fit`; a classifier returns classes.

        Args:
            X: The inputs, an array (samples, features).
        """
        return self._decode(self._outputs(X))

    def _outputs(self, X) -> np.ndarray:
        check_is_fitted(self)
        return self.model_.predict(validate_data(self, X, reset=False))

    def _options(self, y: np.ndarray, options: dict) -> dict:
        """The arguments of `model.fit` besides the data."""
        return options

    def _encode(self, y: np.ndarray) -> np.ndarray:
        type_of_target(y, raise_unknown=True)
        self.target_ndim_ = y.ndim
        return y.reshape(-1, 1) if y.ndim == 1 else y

    def _decode(self, outputs: np.ndarray) -> np.ndarray:
        return outputs[:, 0] if self.target_ndim_ == 1 and outputs.ndim == 2 else outputs


class SKLearnClassifier(ClassifierMixin, _Estimator):
    """A model as a classifier of scikit-learn; needs scikit-learn 1.6 or newer.

    Classes may be of any kind; the model is trained on one-hot rows and has an output column for each class.

    Args:
        model: A compiled Model (each `fit` trains a clone), or a function (X, y, **model_kwargs) that
            returns a compiled Model.
        warm_start: Accepted and ignored, as in Keras: each `fit` starts with a new model.
        model_kwargs: A dict of further arguments of that function.
        fit_kwargs: A dict of arguments of each `model.fit`.
        class_weight: A dict from label, as in y, to the weight of its samples, 1 for other labels; or 'balanced' for
            samples / (classes * samples of the class), as in scikit-learn; None for none. `fit` and fit_kwargs take it too.

    Raises:
        ValueError: in `fit`, for weights of labels that y does not have.

    Example:
        >>> def make(X, y):
        ...     model = keras.Sequential([layers.Dense(y.shape[1], activation="softmax", input_shape=(X.shape[1],))])
        ...     model.compile(keras.optimizers.Adam(0.1), "categorical_crossentropy")
        ...     return model
        >>> X, y = np.array([[0.0], [0.1], [0.9], [1.0]]), np.array(["no", "no", "yes", "yes"])
        >>> classifier = keras.wrappers.SKLearnClassifier(make, fit_kwargs={"epochs": 100, "verbose": 0})
        >>> classifier.fit(X, y).predict([[0.0], [1.0]])
        array(['no', 'yes'], dtype='<U3')
    """

    def __init__(
        self,
        model,
        warm_start: bool = False,
        model_kwargs: dict | None = None,
        fit_kwargs: dict | None = None,
        class_weight: dict | str | None = None,
    ):
        super().__init__(model, warm_start, model_kwargs, fit_kwargs)
        self.class_weight = class_weight

    def _options(self, y: np.ndarray, options: dict) -> dict:
        given = options.get("class_weight", self.class_weight)
        if given is None:
            return options
        labels, counts = np.unique(y, return_counts=True)
        known = labels.tolist()
        if isinstance(given, str) and given == "balanced":
            weights = dict(enumerate((len(y) / (len(labels) * counts)).tolist()))
        elif not isinstance(given, dict) or any(label not in known for label in given):
            raise ValueError(
                "SKLearnClassifier: class_weight must be 'balanced', or a dict from label to weight with the labels "
                f"{briefly(known)}, received {briefly(given)}"
            )
        else:
            weights = {known.index(label): weight for label, weight in given.items()}
        return {**options, "class_weight": weights}

    def decision_function(self, X) -> np.ndarray:
        """The model's outputs, (samples, classes).

        Args:
            X: The inputs, an array (samples, features).
        """
        return self._outputs(X)

    def predict_proba(self, X) -> np.ndarray:
        """The probability of each class, in the order of `classes_`.

        Args:
            X: Rows of features.

        Returns:
            An array with a row for each row of X and a column for each class.

        Raises:
            ValueError: The model's outputs are not probabilities.

        Example:
            >>> from nbkeras.wrappers import SKLearnClassifier
            >>> model = keras.Sequential([keras.Input((1,)), layers.Dense(2, activation="softmax")])
            >>> model.compile("sgd", "categorical_crossentropy")
            >>> classifier = SKLearnClassifier(model, fit_kwargs={"verbose": 0}).fit([[0.0], [1.0]], ["no", "yes"])
            >>> classifier.predict_proba([[0.0], [1.0], [2.0]]).shape
            (3, 2)
        """
        outputs = self._outputs(X)
        if not ((outputs >= 0).all() and np.allclose(outputs.sum(-1), 1, atol=1e-3)):
            raise ValueError(
                "predict_proba needs a model whose outputs are probabilities that sum to 1: let its last layer end with "
                "activation='softmax'. decision_function returns the outputs unchanged"
            )
        return outputs

    def _encode(self, y: np.ndarray) -> np.ndarray:
        kind = type_of_target(y, raise_unknown=True)
        if kind not in ("binary", "multiclass"):
            raise ValueError(f"Only binary and multiclass target types are supported. Target type: {kind}")
        self.classes_, numbers = np.unique(y, return_inverse=True)
        if len(self.classes_) == 1:
            raise ValueError("Classifier can't train when only one class is present.")
        return np.eye(len(self.classes_))[numbers]

    def _decode(self, outputs: np.ndarray) -> np.ndarray:
        return self.classes_[outputs.argmax(-1)]

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.poor_score, tags.target_tags.multi_output = True, False
        return tags


class SKLearnRegressor(RegressorMixin, _Estimator):
    """A model as a regressor of scikit-learn; needs scikit-learn 1.6 or newer.

    Args:
        model: A compiled Model (each `fit` trains a clone), or a function (X, y, **model_kwargs) that
            returns a compiled Model.
        warm_start: Accepted and ignored, as in Keras: each `fit` starts with a new model.
        model_kwargs: A dict of further arguments of that function.
        fit_kwargs: A dict of arguments of each `model.fit`.

    Example:
        >>> model = keras.Sequential([layers.Dense(1, input_shape=(1,))])
        >>> model.compile(keras.optimizers.SGD(0.3), "mse")
        >>> regressor = keras.wrappers.SKLearnRegressor(model, fit_kwargs={"epochs": 200, "verbose": 0})
        >>> X = np.linspace(0, 1, 32).reshape(32, 1)
        >>> regressor.fit(X, 2 * X[:, 0] + 1).predict([[0.5]]).round(1)
        array([2.], dtype=float32)
    """

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.regressor_tags.poor_score = True
        return tags


class SKLearnTransformer(TransformerMixin, _Estimator):
    """A model as a transformer of scikit-learn: `transform` returns the model's outputs.

    It needs scikit-learn 1.6 or newer.

    Args:
        model: A compiled Model (each `fit` trains a clone), or a function (X, y, **model_kwargs) that
            returns a compiled Model.
        warm_start: Accepted and ignored, as in Keras: each `fit` starts with a new model.
        model_kwargs: A dict of further arguments of that function.
        fit_kwargs: A dict of arguments of each `model.fit`.

    Example:
        >>> model = keras.Sequential([layers.Dense(2, input_shape=(3,))])
        >>> model.compile("sgd", "mse")
        >>> transformer = keras.wrappers.SKLearnTransformer(model, fit_kwargs={"verbose": 0})
        >>> transformer.fit(np.ones((4, 3)), np.zeros((4, 2))).transform(np.ones((4, 3))).shape
        (4, 2)
    """

    def transform(self, X) -> np.ndarray:
        """The model's outputs.

        Args:
            X: The inputs, an array (samples, features).
        """
        return self._outputs(X)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = []
        return tags
