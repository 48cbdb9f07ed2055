"""Small programs that expressions in tests/parity/calls use: models that train, files, folders of data, scopes."""

import inspect
import pathlib
import re
import wave

import numpy as np


def names(keras, given: dict, folder: pathlib.Path, config_of) -> dict:
    """The functions of this file by name, for one Keras."""
    layers, ops, a = keras.layers, keras.ops, given["a"]
    found = {}

    def named(function):
        found[function.__name__] = function
        return function

    def numpy(x):
        return np.asarray(ops.convert_to_numpy(x))

    def set_weights(model):
        for number, weight in enumerate(model.weights):
            weight.assign(0.5 * np.cos(np.arange(np.prod(weight.shape)) + number).reshape(weight.shape))
        return model

    @named
    def two_layers():
        """Inputs and outputs of a small network."""
        inputs = keras.Input((3,))
        return inputs, layers.Dense(1, name="two")(layers.Dense(2, activation="relu", name="one")(inputs))

    def model(scale=1.0):
        made = set_weights(keras.Model(*two_layers()))
        made.set_weights([each * scale for each in made.get_weights()])
        made.compile(keras.optimizers.SGD(0.05, use_ema=False), "mse", metrics=["mae"])
        return made

    @named
    def trained(made):
        """Losses of two epochs, an evaluation and predictions of a model with one output."""
        made(a)
        set_weights(made)
        made.compile("sgd", "mse", metrics=["mae"])
        log = made.fit(a, given["weights"][:, None], epochs=2, batch_size=1, shuffle=False, verbose=0).history
        return (log, made.evaluate(a, given["weights"][:, None], verbose=0), made.predict(a, verbose=0))

    @named
    def fitted(*callbacks, scale=1.0, epochs=1, batch_size=2):
        """The log of a training with callbacks, with the learning rate at its end."""
        made, kinds = model(scale), {"callbacks": list(callbacks)}
        log = made.fit(a, given["weights"], epochs=epochs, batch_size=batch_size, shuffle=False, verbose=0, **kinds)
        return log.history | {"rate": float(made.optimizer.learning_rate)}

    @named
    def files(callback, place, start="", epochs=1):
        """The names, or their starts, of the files that a training with a callback writes."""
        fitted(callback, epochs=epochs, batch_size=1)
        return sorted({start if start and start in p.name else p.name for p in place.rglob("*") if p.is_file()})

    @named
    def resumed(callback, place):
        """Epochs of a training that starts where an interrupted one ended."""
        seen = []
        stop = keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch) or 1 / (2 - epoch))
        try:
            fitted(callback(place, delete_checkpoint=False), stop, epochs=4)
        except ZeroDivisionError:
            seen.append("interrupted")
        fitted(
            callback(place),
            keras.callbacks.LambdaCallback(on_epoch_begin=lambda epoch, logs: seen.append(epoch)),
            epochs=4,
        )
        return seen

    @named
    def noted(base):
        """The methods that a training calls, in order."""
        calls = []
        hooks = [name for name in dir(base) if name.startswith("on_") and "predict" not in name]
        own = {hook: lambda self, *args, hook=hook, **kwargs: calls.append(hook) for hook in hooks}
        fitted(type("Noting", (base,), own)())
        return calls

    @named
    def noted_by(make, *hooks):
        calls = []
        fitted(
            make(
                **{
                    hook: lambda *args, hook=hook, **kwargs: calls.append([hook, len(args) + len(kwargs)])
                    for hook in hooks
                }
            )
        )
        return calls

    @named
    def noted_list(make):
        calls = []
        each = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: calls.append([epoch, sorted(logs)]))
        callbacks = make([each], model=model())
        callbacks.on_train_begin()
        callbacks.on_epoch_end(3, {"loss": 1.0})
        return calls, len(callbacks.callbacks)

    @named
    def averaged(callback):
        made = model()
        made.compile(keras.optimizers.SGD(0.05, use_ema=True, ema_momentum=0.5), "mse")
        made.fit(a, given["weights"], epochs=2, verbose=0, callbacks=[callback])
        return made.get_weights()

    @named
    def own_layer(base, **options):
        class Own(base):
            def __init__(self, units=2, **options):
                super().__init__(**options)
                self.units = units
                self.inner = layers.Dense(units, name="inner")

            def build(self, shape):
                self.scale = self.add_weight(shape=(shape[-1],), initializer="ones", name="scale")
                self.inner.build(shape)

            def call(self, x):
                return self.inner(x * self.scale)

            def get_config(self):
                return super().get_config() | {"units": self.units}

        return Own(**options)

    @named
    def built(layer, x):
        layer(x)
        return layer

    @named
    def own_model(base):
        class Own(base):
            def __init__(self):
                super().__init__()
                self.first, self.second = layers.Dense(2), layers.Dense(1)

            def call(self, x, training=False):
                return self.second(ops.tanh(self.first(x)))

        return Own()

    @named
    def own_class(name):
        return type(name, (), {"get_config": lambda self: {}})

    @named
    def clone(how, made, **options):
        """The output of a model with weights set by a rule, for the model that is made from another one."""
        other = how(made, **options)
        return (
            set_weights(other)(a),
            [re.sub(r"_\d+$", "", layer.name) for layer in other.layers if layer.weights],
            other is made,
        )

    @named
    def loaded(load, path, **options):
        model().save(path)
        back = load(path, **options)
        return back.predict(a, verbose=0), getattr(back, "optimizer", None) is not None

    @named
    def saved(save, path):
        save(model(), path)
        return keras.models.load_model(path, compile=False).predict(a, verbose=0)

    @named
    def weights_saved(save, path):
        save(model(), path)
        other = keras.Model(*two_layers())
        other.load_weights(path)
        return other(a)

    @named
    def groups(save, path):
        """The groups of a file of weights of a compiled model, which was not trained."""
        save(model(), path)
        return sorted(keras.saving.KerasFileEditor(str(path)).weights_dict)

    @named
    def weights_loaded(load, path):
        model().save_weights(path)
        other = keras.Model(*two_layers())
        load(other, path)
        return other(a)

    @named
    def custom_scope(scope):
        with scope({"mine": ops.abs}):
            return keras.saving.get_registered_object("mine")(a), "mine" in keras.saving.get_custom_objects()

    @named
    def edited(editor, path):
        keras.Model(*two_layers()).save_weights(path)
        return sorted(editor(str(path)).weights_dict)

    @named
    def changed(editor, folder):
        """The paths and values of a weights file after each kind of change, and a model with the weights."""
        made = set_weights(keras.Model(*two_layers()))
        made.save_weights(folder / "old.weights.h5")
        one = editor(str(folder / "old.weights.h5"))
        one.rename_object("dense", "first")
        one.add_object("layers/extra", {"0": given["a"]})
        one.add_weights("extra", {"1": given["v"]})
        one.delete_weight("extra", "0")
        one.save(str(folder / "new.weights.h5"))
        saved = editor(str(folder / "new.weights.h5"))
        saved.delete_object("extra")
        return [{name: sorted(each) for name, each in some.weights_dict["layers"].items()} for some in (one, saved)]

    @named
    def policy_map(make):
        policies = make()
        policies["one"] = keras.DTypePolicy("float64")
        return [policies["one"].name, policies["two"].name, len(policies), list(policies), policies.default_policy.name]

    @named
    def function(make):
        x = keras.Input((3,))
        return make(x, ops.abs(x) * 2)(a), make([x, x], {"y": x + 1})([a, a])

    @named
    def operation(base):
        own = type("Own", (base,), {"call": lambda self, x: x * 2, "compute_output_spec": lambda self, x: x})
        return own()(ops.array(a)), own(name="mine").name, own()(keras.Input((3,))).shape

    @named
    def scoped(scope):
        with scope(mode="full"):
            made = trained(
                keras.Sequential([keras.Input((3,)), layers.Dense(2, name="one"), layers.Dense(1, name="two")])
            )
        return made, scope(mode="activations").mode

    @named
    def stateless_scoped(scope):
        variable = keras.Variable(a)
        with scope(state_mapping=[(variable, ops.array(given["b"]))]) as active:
            inside = numpy(variable.value)
            variable.assign(given["p"])
        return inside, active.get_current_value(variable), variable.value

    @named
    def stateless_metric(scope, with_states=True):
        """The result of a metric inside of a scope and outside of it, where its state stays."""
        measures = [keras.metrics.MeanSquaredError(), keras.metrics.Recall([0.5, 0.7]), keras.metrics.BinaryIoU()]
        for each in measures:
            each.update_state(given["binary"], given["scores"])
        states = [each for measure in measures for each in measure.variables]
        with scope(state_mapping=[(each, ops.zeros(each.shape)) for each in states] if with_states else None):
            for each in measures:
                each.update_state(given["binary"], given["scores"] * 2)
            inside = [numpy(each.result()) for each in measures]
        return inside, [numpy(each.result()) for each in measures]

    @named
    def stateless_losses(scope):
        layer = layers.ActivityRegularization(l1=0.5)
        with scope(collect_losses=True) as active:
            layer(ops.array(a))
        return [numpy(each) for each in active.losses], len(layer.losses)

    @named
    def symbolic_scoped(scope):
        with scope():
            return keras.Input((3,)).shape

    @named
    def named_scope(scope):
        with scope("outer"):
            return keras.Variable(a, name="x").path

    @named
    def placed(device):
        with device("cpu:0"):
            return ops.add(a, 1)

    @named
    def assigned(variable):
        variable.assign(given["b"])
        variable.assign_add(given["p"])
        return variable.value, variable.shape, str(variable.dtype)

    @named
    def signature(function):
        """The parameters of a function with their default values, for functions that need a network or other programs."""
        parameters = inspect.signature(function).parameters.values()
        return config_of({p.name: repr(p.default) for p in parameters if p.kind is not p.VAR_KEYWORD})

    @named
    def layout_map(make):
        mesh = keras.distribution.DeviceMesh((1,), ["batch"], ["cpu:0"])
        layouts = make(mesh)
        layouts["dense.*kernel"] = (None, "batch")
        return layouts["dense_1/kernel"].axes, layouts["other"], len(layouts)

    @named
    def model_parallel(make):
        mesh = keras.distribution.DeviceMesh((1,), ["batch"], ["cpu:0"])
        return make(layout_map=keras.distribution.LayoutMap(mesh), batch_dim_name="batch").batch_dim_name

    def in_folder(kind, names, write):
        for number, name in enumerate(names):
            path = folder / kind / name
            path.parent.mkdir(parents=True, exist_ok=True)
            write(path, number)
        return folder / kind

    @named
    def picture(folder):
        keras.utils.save_img(folder / "picture.png", given["images"][0])
        return folder / "picture.png"

    @named
    def pictures(folder):
        def write(path, number):
            keras.utils.save_img(path, given["images"][number % 2])

        return in_folder("pictures", ["a/1.png", "a/2.png", "b/3.png"], write)

    @named
    def text_files(folder):
        def write(path, number):
            path.write_text(f"text {number}\nand more")

        return in_folder("texts", ["a/1.txt", "b/2.txt", "b/3.txt"], write)

    @named
    def sounds(folder):
        def write(path, number):
            with wave.open(str(path), "wb") as file:
                file.setnchannels(1)
                file.setsampwidth(2)
                file.setframerate(8000)
                file.writeframes((np.arange(5) * 1000 * (number + 1)).astype("<i2").tobytes())

        return in_folder("sounds", ["a/1.wav", "b/2.wav"], write)

    @named
    def batches(data):
        """The batches of a data set as arrays without their dtypes, which differ between tf.data and others."""

        def plain(x):
            if isinstance(x, tuple | list):
                return [plain(each) for each in x]
            array = np.asarray(x.numpy() if hasattr(x, "numpy") else x)
            if array.dtype.kind in "OSU":
                return [each.decode() if isinstance(each, bytes) else str(each) for each in array.ravel().tolist()]
            return array.astype("float32")

        return [plain(batch) for batch in data]

    @named
    def features(make):
        data = {"x": np.array([1.0, 2.0, 3.0], "float32"), "k": np.array(["a", "b", "a"])}
        space = make(features={"x": make.float_normalized(), "k": make.string_categorical(num_oov_indices=0)})
        adapt_space(space, data)
        return numpy(space({"x": [1.0, 3.0], "k": ["a", "b"]})).round(5)

    @named
    def crossed(make, **options):
        data = {
            "x": np.array([1.0, 2.0, 3.0, 8.0], "float32"),
            "n": np.array([3, 1, 3, 2]),
            "k": np.array(["a", "b", "a", "c"]),
        }
        kinds = {
            "x": make.float_discretized(num_bins=3),
            "n": make.integer_categorical(output_mode="one_hot"),
            "k": make.string_hashed(num_bins=5),
        }
        space = make(kinds, crosses=[make.cross(("n", "k"), crossing_dim=7)], crossing_dim=16, **options)
        adapt_space(space, data)
        found = space(data)
        return {key: numpy(each) for key, each in found.items()} if isinstance(found, dict) else numpy(found)

    def adapt_space(space, data):
        if keras.__name__ == "keras":  # nbkeras takes dicts too, without TensorFlow
            from tensorflow.data import Dataset

            data = Dataset.from_tensor_slices(data).batch(3)
        space.adapt(data)

    @named
    def archived(make, place):
        """The outputs of the functions of two endpoints, and whether a folder was written."""
        made, archive = set_weights(keras.Model(*two_layers())), make()
        archive.track(made)
        served = archive.add_endpoint("serve", made.call, [keras.InputSpec(shape=(None, 3), dtype="float32")])
        archive.write_out(str(place), verbose=False)
        return numpy(served(ops.array(a))), place.is_dir()

    @named
    def progress(make):
        import contextlib
        import io

        with contextlib.redirect_stdout(io.StringIO()) as text:
            bar = make(2, verbose=2)
            bar.update(1, [("loss", 1.0)])
            bar.update(2, [("loss", 2.0)])
        return "loss: 1.5" in text.getvalue()

    @named
    def sequence(base):
        class Own(base):
            def __len__(self):
                return 2

            def __getitem__(self, index):
                return a[index : index + 1], given["weights"][index : index + 1]

        made = model()
        return (
            made.fit(Own(), epochs=2, shuffle=False, verbose=0).history,
            made.predict(Own(), verbose=0),
            Own().num_batches,
        )

    @named
    def downloaded(get, folder):
        (folder / "source.txt").write_text("content")
        place = get("copy.txt", origin=(folder / "source.txt").as_uri(), cache_dir=folder, cache_subdir="x")
        return pathlib.Path(place).read_text(), pathlib.Path(place).relative_to(folder).as_posix()

    @named
    def distilled(make):
        teacher, student = model(), model(0.5)
        made = make(teacher, student, [keras.distillation.LogitsDistillation()], student_loss_weight=0.5)
        made.compile(optimizer=keras.optimizers.SGD(0.05), loss="mse")
        return made.fit(a, given["weights"], epochs=2, batch_size=2, verbose=0).history["loss"]

    @named
    def sklearn(make, kind):
        def create(X, y, loss="mse"):
            x = keras.Input((X.shape[1],))
            ends = {"classifier": layers.Dense(2, activation="softmax"), "regressor": layers.Dense(1)}
            made = set_weights(keras.Model(x, ends.get(kind, layers.Dense(2))(x)))
            made.compile("sgd", loss)
            return made

        options = {"loss": "categorical_crossentropy"} if kind == "classifier" else {}
        one = make(
            create, model_kwargs=options, fit_kwargs={"epochs": 2, "verbose": 0, "shuffle": False, "batch_size": 6}
        )
        targets = given["v_int"] % 2 if kind == "classifier" else given["v"]
        one.fit(given["tall"], targets)
        return numpy((one.transform if kind == "transformer" else one.predict)(given["tall"]))

    return found
