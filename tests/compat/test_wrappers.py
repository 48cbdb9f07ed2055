"""Models as scikit-learn's estimators: Keras 3's wrappers and Keras 2's."""

import pickle

import numpy as np
import pytest

from nbkeras import layers, models, optimizers, utils, wrappers
from nbkeras.compat.keras2.scikit_learn import BaseWrapper, KerasClassifier, KerasRegressor

sklearn = pytest.importorskip("sklearn")
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")

X = np.random.default_rng(0).normal(size=(40, 3)).astype("float32")
NAMES = np.array(["a", "b"])[(X[:, 0] > 0).astype(int)]
SHORT = {"epochs": 5, "verbose": 0}


@pytest.fixture(autouse=True)
def seed():
    utils.set_random_seed(1)


def classifier(units=2, activation="softmax", loss="categorical_crossentropy", metrics=("accuracy",)):
    model = models.Sequential([layers.Input((3,)), layers.Dense(units, activation=activation)])
    model.compile(optimizers.Adam(0.1), loss, metrics=list(metrics))
    return model


class make_same:
    """Makes models with the weights of a model; a class, so that it can be pickled."""

    def __init__(self, model):
        self.weights = model.get_weights()

    def __call__(self, X, y):
        model = classifier()
        model.set_weights(self.weights)
        return model


def regressor():
    model = models.Sequential([layers.Input((3,)), layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


class TestKeras3:
    def test_classifier(self):
        from sklearn.base import clone, is_classifier
        from sklearn.model_selection import cross_val_score

        estimator = wrappers.SKLearnClassifier(classifier(), fit_kwargs={"epochs": 30, "verbose": 0})
        assert is_classifier(estimator) and cross_val_score(clone(estimator), X, NAMES, cv=2).mean() > 0.5
        estimator.fit(X, NAMES)
        assert set(estimator.predict(X)) <= {"a", "b"} and estimator.decision_function(X).shape == (40, 2)
        probabilities = estimator.predict_proba(X)
        assert (estimator.classes_[probabilities.argmax(1)] == estimator.predict(X)).all()
        np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
        assert np.isfinite(cross_val_score(clone(estimator), X, NAMES, cv=2, scoring="neg_log_loss")).all()
        logits = wrappers.SKLearnClassifier(classifier(activation="linear", loss="mse"), fit_kwargs={"verbose": 0})
        with pytest.raises(ValueError, match="outputs are probabilities"):
            logits.fit(X, NAMES).predict_proba(X)
        assert estimator.model_ is not estimator.model and len(estimator.history_.history["loss"]) == 30
        with pytest.raises(ValueError, match="only one class"):
            estimator.fit(X, np.zeros(40, int))
        with pytest.raises(ValueError, match="Only binary and multiclass"):
            estimator.fit(X, X[:, 0])

    @pytest.mark.parametrize("weights", ["balanced", {"a": 2.0, "b": 2 / 3}])
    def test_class_weights_by_label_equal_sample_weights(self, weights):
        from sklearn.base import clone

        names = np.array(["a"] * 10 + ["b"] * 30)
        options = {"epochs": 2, "verbose": 0, "shuffle": False, "validation_split": 0.25}
        given, model = np.linspace(1, 2, 40), classifier()
        expected = wrappers.SKLearnClassifier(make_same(model), fit_kwargs=options)
        expected.fit(X, names, sample_weight=given * np.where(names == "a", 2.0, 2 / 3))
        first = wrappers.SKLearnClassifier(make_same(model), fit_kwargs=options, class_weight=weights)
        others = clone(first).set_params(class_weight=None), wrappers.SKLearnClassifier(make_same(model))
        first.fit(X, names, sample_weight=given)
        others[0].fit(X, names, sample_weight=given, class_weight=weights)
        others[1].set_params(fit_kwargs={**options, "class_weight": weights}).fit(X, names, sample_weight=given)
        for each in (first, *others, pickle.loads(pickle.dumps(first))):
            np.testing.assert_allclose(each.decision_function(X), expected.decision_function(X), rtol=1e-5)
        assert clone(first).get_params()["class_weight"] == weights

    @pytest.mark.parametrize("weights", ["balance", {"c": 1.0}, [1, 2]])
    def test_class_weights_of_other_labels_are_refused(self, weights):
        estimator = wrappers.SKLearnClassifier(classifier(), class_weight=weights)
        with pytest.raises(ValueError, match=r"class_weight must be 'balanced', .* labels \['a', 'b'\], received"):
            estimator.fit(X, NAMES)

    def test_function_regressor_and_transformer(self):
        def make(X, y, units):
            assert y.shape == (40, 1)
            return regressor()

        estimator = wrappers.SKLearnRegressor(make, model_kwargs={"units": 1}, fit_kwargs={"verbose": 0})
        assert estimator.fit(X, X[:, 0]).predict(X).shape == (40,)
        assert np.isfinite(estimator.score(X, X[:, 0]))
        transformer = wrappers.SKLearnTransformer(regressor(), fit_kwargs={"verbose": 0})
        assert transformer.fit(X, X[:, :1]).transform(X).shape == (40, 1)

    def test_mistakes_are_explained(self):
        from sklearn.exceptions import NotFittedError

        with pytest.raises(NotFittedError, match="instance is not fitted yet"):
            wrappers.SKLearnRegressor(regressor()).predict(X)
        model = models.Sequential([layers.Input((3,)), layers.Dense(1)])
        with pytest.raises(RuntimeError, match="must be compiled"):
            wrappers.SKLearnRegressor(model).fit(X, X[:, 0])


# -------------------- scikit-learn's own checks --------------------


class Reproducible:
    """Makes models that begin with the same weights; names of tests show it, so its name has no address."""

    def __call__(self, X, y, loss, activation=None):
        utils.set_random_seed(1)
        hidden, last = layers.Dense(20, activation="relu"), layers.Dense(y.shape[1], activation=activation)
        model = models.Sequential([layers.Input(X.shape[1:]), hidden, last])
        model.compile(optimizers.RMSprop(0.01), loss)
        return model

    def __repr__(self):
        return "Reproducible()"


reproducible = Reproducible()


SOFTMAX = {"loss": "categorical_crossentropy", "activation": "softmax"}
CHECKED = [
    wrappers.SKLearnClassifier(reproducible, model_kwargs=SOFTMAX, fit_kwargs=SHORT),
    wrappers.SKLearnRegressor(reproducible, model_kwargs={"loss": "mse"}, fit_kwargs=SHORT),
    wrappers.SKLearnTransformer(reproducible, model_kwargs={"loss": "mse"}, fit_kwargs=SHORT),
]
OF_OUTPUTS = "decision_function returns the outputs of the model, a column for each class, as Keras's does"
EXPECTED_FAILURES = {
    "SKLearnClassifier": dict.fromkeys(
        ("check_classifiers_classes", "check_classifiers_train", "check_decision_proba_consistency"), OF_OUTPUTS
    ),
    "SKLearnRegressor": {"check_regressor_multioutput": "predictions have the model's dtype, float32, not float64"},
    "SKLearnTransformer": {},
}


@pytest.mark.grid
@parametrize_with_checks(CHECKED, expected_failed_checks=lambda each: EXPECTED_FAILURES[type(each).__name__])
def test_checks_of_scikit_learn(estimator, check):
    check(estimator)


class TestKeras2:
    @pytest.mark.parametrize("y", [NAMES, np.eye(2)[(NAMES == "b").astype(int)]], ids=["names", "one-hot"])
    def test_classifier(self, y):
        estimator = KerasClassifier(classifier, epochs=40, batch_size=4, verbose=0)
        estimator.fit(X, y, sample_weight=np.ones(40))
        expected = {"a", "b"} if y.dtype.kind == "U" else {0, 1}
        assert set(estimator.predict(X)) <= expected and estimator.predict(X).shape == (40,)
        assert estimator.predict_proba(X, batch_size=40).shape == (40, 2)
        if y.ndim == 1:
            assert estimator.score(X, y, batch_size=7) > 0.7

    def test_one_output(self):
        estimator = KerasClassifier(classifier, units=1, activation="sigmoid", loss="binary_crossentropy", verbose=0)
        estimator.fit(X, NAMES[:, None])
        assert estimator.predict(X).shape == (40, 1)
        np.testing.assert_allclose(estimator.predict_proba(X).sum(1), 1, rtol=1e-6)

    def test_scikit_learn_knows_whether_it_is_fitted(self):
        from sklearn.exceptions import NotFittedError
        from sklearn.utils.validation import check_is_fitted

        estimator = KerasClassifier(classifier, epochs=1, verbose=0)
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            check_is_fitted(estimator)
        estimator.fit(X, NAMES)
        check_is_fitted(estimator)

    def test_grid_search(self):
        from sklearn.model_selection import GridSearchCV

        search = GridSearchCV(KerasClassifier(classifier, verbose=0), {"epochs": [1, 2]}, scoring="neg_log_loss", cv=2)
        search.fit(X, NAMES)
        assert search.best_params_["epochs"] in (1, 2)

    def test_regressor_and_classes_that_build(self):
        calls = {"__call__": lambda self, units: regressor()}
        mine, builder = type("Mine", (KerasRegressor,), calls), type("Builder", (), calls)
        for estimator in (mine(units=3), KerasRegressor(builder(), units=3)):
            estimator.fit(X, X[:, 0], verbose=0)
            assert estimator.predict(X).shape == (40,)
            assert estimator.score(X, X[:, 0], verbose=0) < 0

    def test_parameters(self):
        estimator = BaseWrapper(classifier, units=2)
        assert estimator.set_params(epochs=3).get_params() == {"units": 2, "epochs": 3, "build_fn": classifier}
        with pytest.raises(ValueError, match="colour is not a legal parameter"):
            estimator.set_params(colour=1)
        with pytest.raises(ValueError, match="should pass `metrics="):
            silent = KerasClassifier(classifier, metrics=(), verbose=0)
            silent.fit(X, NAMES)
            silent.score(X, NAMES)
        with pytest.raises(ValueError, match="Invalid shape for y"):
            KerasClassifier(classifier).fit(X, np.zeros((4, 1, 1)))
