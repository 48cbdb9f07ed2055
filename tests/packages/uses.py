"""Small real uses of packages: models with weights by a formula, and what they compute, by nbkeras and by real Keras.

A use takes an empty folder and returns arrays, which scripts/make_use_references.py stores for real Keras, or checks what it
says below. `import keras` is written as `from tensorflow import keras` if the package does so.
"""

import os
from collections.abc import Callable
from typing import Any

os.environ.setdefault("MPLBACKEND", "Agg")

import numpy as np

USES: dict[str, Callable[[str], dict[str, Any]]] = {}


def use(function: Callable) -> Callable:
    """Add a use by the name of its package."""
    USES[function.__name__.replace("_", "-")] = function
    return function


def filled(model: Any, by_path: bool = False) -> Any:
    """Set the weights by a formula, small enough that activations stay near 1; by_path: in the order of their paths."""
    places = np.argsort(np.argsort([each.path for each in model.weights])) if by_path else range(len(model.weights))
    values = []
    for place, weight in zip(places, model.get_weights(), strict=True):
        if np.issubdtype(weight.dtype, np.floating):
            fan_in = max(1, int(np.prod(weight.shape[:-1])))
            wave = np.sin(np.arange(weight.size) * 0.7 + place).reshape(weight.shape) * (2 / fan_in) ** 0.5 + 0.01
            weight = (np.abs(wave) + 0.5 if weight.ndim == 1 else wave).astype(weight.dtype)
        values.append(weight)
    model.set_weights(values)
    return model


def image(*shape: int) -> np.ndarray:
    return (np.sin(np.arange(np.prod(shape)) * 0.37).reshape(shape) + 1).astype("float32") / 2


def line(keras: Any, *inputs: int) -> Any:
    """A model of one layer with known weights."""
    return filled(keras.Sequential([keras.Input(inputs), keras.layers.Dense(3)]))


# -------------------- layers and models --------------------


@use
def keras_efficient_kan(folder):
    import keras
    from keras_efficient_kan import KANLinear

    model = keras.Sequential([keras.layers.Input((6,)), KANLinear(8), KANLinear(2)])
    for weight in model.weights:
        if "grid" not in weight.path:
            weight.assign(np.sin(np.arange(np.prod(weight.shape)) * 0.7).reshape(weight.shape) / 4)
    outputs = model.predict(image(5, 6), verbose=0)
    model.compile("adam", "mse")
    losses = model.fit(image(8, 6), image(8, 2), epochs=3, verbose=0, shuffle=False).history["loss"]
    model.save(f"{folder}/model.keras")
    again = keras.models.load_model(f"{folder}/model.keras").predict(image(5, 6), verbose=0)
    return {"outputs": outputs, "losses": losses, "again": again}


@use
def vit_keras(folder):
    from vit_keras import vit

    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "hidden_size": 16, "num_heads": 2, "mlp_dim": 32}
    kinds = {"activation": "softmax", "include_top": True, "representation_size": None, "dropout": 0.1}
    model = vit.build_model(name="vit", classes=5, **sizes, **kinds)
    return {"outputs": filled(model).predict(image(3, 32, 32, 3), verbose=0)}


@use
def keras_tcn(folder):
    from tcn import TCN
    from tensorflow import keras

    inputs = keras.Input((20, 3))
    hidden = TCN(nb_filters=8, dilations=(1, 2, 4), use_layer_norm=True, name="tcn")(inputs)
    model = filled(keras.Model(inputs, keras.layers.Dense(1)(hidden)), by_path=True)
    outputs = model.predict(image(5, 20, 3), verbose=0)
    model.compile("sgd", "mse")
    losses = model.fit(image(8, 20, 3), image(8, 1), epochs=3, verbose=0, shuffle=False).history["loss"]
    model.save(f"{folder}/model.keras")
    again = keras.models.load_model(f"{folder}/model.keras", custom_objects={"TCN": TCN})
    return {"outputs": outputs, "losses": losses, "again": again.predict(image(5, 20, 3), verbose=0)}


@use
def keras_unet_collection(folder):
    from keras_unet_collection import losses, models

    common = {"n_labels": 2, "activation": "ReLU", "batch_norm": True}
    once = {"filter_num": [4, 8, 16], "stack_num_down": 1, "stack_num_up": 1, **common}
    unet = models.unet_2d((32, 32, 3), output_activation="Softmax", pool=True, unpool=True, **once)
    attention = models.att_unet_2d((32, 32, 3), output_activation="Sigmoid", pool=False, unpool=False, **once)
    found = {
        name: filled(model).predict(image(1, 32, 32, 3), verbose=0)[:, ::4, ::4]
        for name, model in (("unet", unet), ("attention", attention))
    }
    pair = image(2, 8, 8, 2), image(2, 8, 8, 2)[::-1]
    return found | {"dice": losses.dice(*pair), "focal": losses.focal_tversky(*pair)}


@use
def keras_cv_attention_models(folder):
    from keras_cv_attention_models import aotnet, beit, convnext, fasternet

    common = {"num_classes": 5, "pretrained": None}
    sizes = {"num_blocks": [1, 1, 1, 1], "out_channels": [8, 16, 24, 32], "input_shape": (64, 64, 3)}
    nets = {
        "aotnet": aotnet.AotNet(
            num_blocks=[1, 1], strides=[1, 2], out_channels=[8, 16], input_shape=(32, 32, 3), **common
        ),
        "convnext": convnext.ConvNeXt(**sizes, **common),
        "beit": beit.Beit(depth=2, embed_dim=32, num_heads=2, patch_size=8, input_shape=(32, 32, 3), **common),
        "fasternet": fasternet.FasterNet(num_blocks=[1, 1, 1, 1], embed_dim=8, input_shape=(64, 64, 3), **common),
    }
    return {name: filled(net).predict(image(2, *net.input_shape[1:]), verbose=0) for name, net in nets.items()}


@use
def spektral(folder):
    from spektral.data import BatchLoader, Dataset, Graph
    from spektral.layers import GATConv, GCNConv, GlobalSumPool
    from tensorflow import keras

    links = (np.arange(75).reshape(3, 5, 5) % 3 == 0).astype("float32")
    nodes, links = image(3, 5, 4), np.maximum(links, links.transpose(0, 2, 1))

    class Graphs(Dataset):
        path = folder

        def read(self):
            return [Graph(x=nodes[i], a=links[i], y=np.eye(2)[i % 2]) for i in range(3)]

    x, a = keras.Input((None, 4)), keras.Input((None, None))
    hidden = GATConv(3, dropout_rate=0.0)([GCNConv(8, activation="relu")([x, a]), a])
    model = keras.Model([x, a], keras.layers.Dense(2, activation="softmax")(GlobalSumPool()(hidden)))
    outputs = filled(model).predict([nodes / 4, links], verbose=0)
    loader = BatchLoader(Graphs(), batch_size=3, shuffle=False, epochs=2)
    model.compile("sgd", "categorical_crossentropy")
    losses = model.fit(loader.load(), steps_per_epoch=loader.steps_per_epoch, epochs=2, verbose=0).history["loss"]
    return {"outputs": outputs, "losses": losses}


@use
def deepface(folder):
    from deepface.models.demography.tf import Emotion
    from deepface.models.facial_recognition.tf import DeepID, Facenet, OpenFace

    for module in (Emotion, DeepID, OpenFace):  # no downloads
        module.weight_utils.download_weights_if_necessary = lambda *args, **kwargs: ""
        module.weight_utils.load_model_weights = lambda model, weight_file: model
    nets = {
        "emotion": Emotion.load_model,
        "deepid": DeepID.load_model,
        "openface": OpenFace.load_model,
        "facenet": Facenet.InceptionResNetV1,
    }
    found = {}
    for name, make in nets.items():
        net = filled(make())
        found[name] = net.predict(image(1, *net.input_shape[1:]), verbose=0)[:, :30]
    return found


# -------------------- explanations of models --------------------


@use
def tf_keras_vis(folder):
    from tensorflow import keras
    from tf_keras_vis.gradcam_plus_plus import GradcamPlusPlus
    from tf_keras_vis.saliency import Saliency
    from tf_keras_vis.scorecam import Scorecam
    from tf_keras_vis.utils.model_modifiers import ReplaceToLinear
    from tf_keras_vis.utils.scores import CategoricalScore

    layers = keras.layers
    inputs = layers.Input((16, 16, 3))
    hidden = layers.Conv2D(4, 3, activation="relu")(inputs)
    hidden = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 3, activation="relu")(hidden))
    model = filled(keras.Model(inputs, layers.Dense(5, activation="softmax")(hidden)))
    x, score = image(2, 16, 16, 3), CategoricalScore([1, 3])
    linear = {"model_modifier": ReplaceToLinear(), "clone": True}
    return {
        "saliency": Saliency(model, **linear)(score, x),
        "gradcam": GradcamPlusPlus(model, **linear)(score, x, penultimate_layer=-1),
        "scorecam": Scorecam(model)(score, x, penultimate_layer=-1),
    }


@use
def shap(folder):
    import shap
    from tensorflow import keras

    layers = keras.layers
    model = filled(keras.Sequential([keras.Input((6,)), layers.Dense(8, activation="relu"), layers.Dense(2)]))
    explainer = shap.KernelExplainer(lambda x: model.predict(x, verbose=0), image(20, 6))
    found = explainer.shap_values(image(3, 6), nsamples=100, silent=True)
    gradients = shap.GradientExplainer(model, image(20, 6)).shap_values(image(3, 6), nsamples=400, rseed=1)
    assert gradients.shape == (3, 6, 2) and np.abs(gradients - found).max() < 0.2 * np.abs(found).max()
    return {"kernel": found}


# -------------------- trainings and searches --------------------


@use
def autokeras(folder):
    import autokeras as ak

    rng = np.random.default_rng(0)
    x = rng.normal(size=(96, 8)).astype("float32")
    inputs = ak.Input()
    outputs = ak.RegressionHead()(ak.DenseBlock()(inputs))
    search = ak.AutoModel(inputs, outputs, max_trials=2, directory=f"{folder}/a", seed=1)
    search.fit(x, x @ np.arange(8)[:, None] / 8, epochs=4, verbose=0)
    assert search.predict(x, verbose=0).shape == (96, 1) and len(search.tuner.oracle.trials) == 2
    images = ak.ImageClassifier(max_trials=1, directory=f"{folder}/b", seed=1)
    images.fit(image(40, 16, 16, 1), np.arange(40) % 2, epochs=1, verbose=0)
    model = images.export_model()
    np.testing.assert_allclose(
        images.evaluate(image(40, 16, 16, 1), np.arange(40) % 2, verbose=0)[0],
        model.evaluate(image(40, 16, 16, 1), np.arange(40) % 2, verbose=0)[0],
        rtol=1e-4,
    )
    texts = ak.TextClassifier(max_trials=1, directory=f"{folder}/c", seed=1)
    texts.fit(np.array(["good movie", "bad film"] * 20), np.array([1, 0] * 20), epochs=1, verbose=0)
    assert texts.predict(np.array(["good film"]), verbose=0).shape == (1, 1)
    return {}


@use
def imbalanced_learn(folder):
    import keras
    from imblearn.keras import BalancedBatchGenerator, balanced_batch_generator

    y = (np.arange(200) % 10 == 0).astype("int64")
    x = image(200, 8) + y[:, None].astype("float32") / 4
    model = filled(keras.Sequential([keras.Input((8,)), keras.layers.Dense(1, activation="sigmoid")]))
    model.compile("sgd", "binary_crossentropy")
    batches = BalancedBatchGenerator(x, y, batch_size=10, random_state=42)
    first = model.fit(batches, epochs=3, verbose=0, shuffle=False).history["loss"]
    generator, steps = balanced_batch_generator(x, y, batch_size=10, random_state=42)
    second = model.fit(generator, steps_per_epoch=steps, epochs=2, verbose=0).history["loss"]
    return {"sequence": first, "generator": second}


@use
def optuna_integration(folder):
    import keras
    import optuna
    from optuna_integration import KerasPruningCallback

    def objective(trial):
        model = line(keras, 4)
        model.compile(keras.optimizers.SGD(trial.suggest_float("rate", 1e-3, 10, log=True)), "mse")
        pruning = KerasPruningCallback(trial, "loss")
        fit = model.fit(image(32, 4), image(32, 3), epochs=5, verbose=0, shuffle=False, callbacks=[pruning])
        return fit.history["loss"][-1]

    pruner = optuna.pruners.MedianPruner(n_startup_trials=2)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(0), pruner=pruner)
    study.optimize(objective, n_trials=6)
    losses = [np.nan if each.value is None else min(each.value, 1e6) for each in study.trials]
    return {"losses": losses, "epochs": [len(each.intermediate_values) for each in study.trials]}


@use
def mlflow(folder):
    import keras
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder}/runs.db")
    mlflow.create_experiment("use", artifact_location=f"file://{folder}/artifacts")
    mlflow.set_experiment("use")
    mlflow.tensorflow.autolog()
    with mlflow.start_run() as run:
        model = line(keras, 4)
        model.compile("sgd", "mse")
        model.fit(image(32, 4), image(32, 3), epochs=3, verbose=0, shuffle=False)
    mlflow.tensorflow.autolog(disable=True)
    history = mlflow.MlflowClient().get_metric_history(run.info.run_id, "loss")
    uri = mlflow.search_logged_models(output_format="list")[0].model_uri
    outputs = mlflow.pyfunc.load_model(uri).predict(image(5, 4))
    np.testing.assert_array_equal(outputs, model.predict(image(5, 4), verbose=0))
    return {"losses": [each.value for each in history], "outputs": outputs}


@use
def tqdm(folder):
    import io

    from tensorflow import keras
    from tqdm.keras import TqdmCallback

    model, shown = line(keras, 4), io.StringIO()
    model.compile("sgd", "mse")
    bars = TqdmCallback(verbose=2, file=shown)
    history = model.fit(image(32, 4), image(32, 3), epochs=3, verbose=0, callbacks=[bars]).history["loss"]
    assert "3/3" in shown.getvalue() and f"loss={history[-1]:.3g}" in shown.getvalue()
    return {}
