"""Models as estimators of scikit-learn, which is an optional dependency."""

from nbkeras.engine import lazy_names as _lazy_names

_LATER = {"sklearn": "SKLearnClassifier SKLearnRegressor SKLearnTransformer"}
__getattr__, __dir__, __all__ = _lazy_names.names(globals(), _LATER)
