"""Models as estimators of scikit-learn, which is an optional dependency."""

from nbkeras import later as _later

_LATER = {"sklearn": "SKLearnClassifier SKLearnRegressor SKLearnTransformer"}
__getattr__, __dir__, __all__ = _later.names(globals(), _LATER)
