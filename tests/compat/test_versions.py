"""Keras 2 and Keras 3 as two modes of `import keras`: chosen by an option, an argument, or what the script uses."""

import json
import os
import pathlib
import subprocess
import sys
import textwrap

import pytest

import nbkeras
from nbkeras.compat import alias, modules
from nbkeras.compat.keras3 import root
from nbkeras.compat.modules import BACKEND_OF_KERAS_3, SRC
from nbkeras.compat.version import version_of_file

SCRIPTS = pathlib.Path(__file__).parents[2] / "scripts"


@pytest.mark.parametrize(
    ("source", "version", "reason"),
    [
        ("from keras import ops", 3, "line 1 uses keras.ops"),
        ("import keras\nkeras.random.normal((2,))", 3, "line 2 uses keras.random.normal"),
        ("import keras as k\nk.saving.load_model('a.keras')", 3, "line 2 uses keras.saving.load_model"),
        ("from keras.src.saving import serialization_lib", 3, "line 1 uses keras.src.saving.serialization_lib"),
        ("import keras.src.backend", 3, "line 1 uses keras.src.backend"),
        ("from keras.engine.topology import Layer", 2, "line 1 uses keras.engine.topology.Layer"),
        ("from keras.utils import np_utils", 2, "line 1 uses keras.utils.np_utils"),
        ("from keras.layers.core import Dense", 2, "line 1 uses keras.layers.core.Dense"),
        ("import keras\nkeras.layers.recurrent.LSTM(2)", 2, "line 2 uses keras.layers.recurrent.LSTM"),
        ("from keras.layers import CuDNNLSTM", 2, "line 1 uses keras.layers.CuDNNLSTM"),
        ("from keras.constraints import maxnorm", 2, "line 1 uses keras.constraints.maxnorm"),
        ("from keras.models import Sequential\nm = Sequential()\nm.fit_generator(g)", 2, "line 3 uses fit_generator"),
        ("import keras\nm = keras.Sequential()\nm.fit(x, workers=4)", 2, "line 3 uses fit(workers=...)"),
        ("from keras.optimizers import SGD\nSGD(lr=0.1)", 2, "line 2 uses SGD(lr=...)"),
        ("from keras import backend as K\nK.mean(K.square(x))", 2, "line 2 uses keras.backend.mean"),
        ("import tensorflow as tf\ntf.keras.layers.core.Dense(2)", 2, "line 2 uses keras.layers.core.Dense"),
        ("from tensorflow.keras.utils.np_utils import normalize", 2, "line 1 uses keras.utils.np_utils.normalize"),
        # a file with both cannot be for Keras 2, which has no keras.ops
        ("from keras import ops\nfrom keras.optimizers import SGD\nSGD(lr=0.1)", 3, "line 1 uses keras.ops"),
    ],
)
def test_a_script_shows_its_version(tmp_path, source, version, reason):
    path = tmp_path / "script.py"
    path.write_text(source, encoding="utf-8")
    found = version_of_file(str(path))
    assert (found.version, found.reason, found.imports_keras) == (version, reason, True)


NEUTRAL = {
    "plain": "import keras\nkeras.layers.Dense(2)",
    "star": "from keras.layers import *\nfrom keras.models import Sequential\nmodel = Sequential()\nmodel.fit(x, y, epochs=2)",
    "backend": "from keras import backend as K\nK.clear_session()\nK.set_floatx('float64')",
    # TensorFlow's Keras 3 has Keras 2's backend functions too
    "backend of TensorFlow": "from tensorflow.keras import backend as K\nK.mean(x)",
    "PyTorch": "import keras, torch\ntorch.optim.SGD(p, lr=0.1)\nx.mean(workers=2)",
    "not Python": "import sys\ndef f(:",
}


@pytest.mark.parametrize("source", NEUTRAL.values(), ids=NEUTRAL)
def test_a_script_with_no_name_of_keras_2_is_for_keras_3(tmp_path, source):
    path = tmp_path / "script.py"
    path.write_text(source, encoding="utf-8")
    found = version_of_file(str(path))
    assert found.version == 3 and found.reason == "the script uses none of the names that only Keras 2 has"
    assert found.imports_keras is ("keras" in source)


def test_files_beside_the_script_count_and_installed_packages_do_not(tmp_path):
    (tmp_path / "script.py").write_text("import numpy\nimport parts\nimport parts.more", encoding="utf-8")
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "__init__.py").write_text("from . import more\nimport script", encoding="utf-8")
    (tmp_path / "parts" / "more.py").write_text("\nfrom keras.engine import Layer", encoding="utf-8")
    found = version_of_file(str(tmp_path / "script.py"))
    assert (found.version, found.reason) == (2, "line 2 of more.py uses keras.engine.Layer")
    assert version_of_file(str(tmp_path / "absent.py")).version == version_of_file(None).version == 3


def said(folder, source, *options, module=False, **environment):
    """stdout and stderr of a script."""
    (folder / "job.py").write_text(textwrap.dedent(source), encoding="utf-8")
    command = [sys.executable, "-m", "nbkeras", *options, *(["-m", "job"] if module else ["job.py"]), "a", "--b"]
    settings = {name: value for name, value in os.environ.items() if name not in ("PYTHONSAFEPATH", "KERAS_BACKEND")}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=settings | environment)
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


SHOWS = """
    import json, sys
    import keras
    from keras import layers
    facts = [keras.__version__, keras.backend.backend(), keras.config.backend(), layers.GRU(2).reset_after]
    facts += [round(float(keras.optimizers.Adagrad().learning_rate), 4), hasattr(keras.Model, "fit_generator")]
    print(json.dumps([*facts, __name__, sys.argv[1:]]))
    """
AS_3 = ["3.15.1", "numpy", "numpy", True, 0.001, False, "__main__", ["a", "--b"]]
AS_2 = ["2.3.1", "nbkeras", "nbkeras", False, 0.01, True, "__main__", ["a", "--b"]]


@pytest.mark.parametrize("module", [False, True], ids=["script", "module"])
def test_the_option_chooses_the_version(tmp_path, module):
    for version, facts in ((2, AS_2), (3, AS_3)):
        out, errors = said(tmp_path, SHOWS, "--keras", str(version), module=module)
        assert json.loads(out) == facts and errors == ""


@pytest.mark.process
def test_without_the_option_one_line_says_which_version_and_why(tmp_path):
    out, errors = said(tmp_path, SHOWS)
    assert json.loads(out) == AS_3
    assert errors == (
        "nbkeras: keras is Keras 3 here, because the script uses none of the names that only Keras 2 has "
        "(--keras 2 selects Keras 2)\n"
    )
    out, errors = said(tmp_path, f"{SHOWS}from keras.utils import np_utils", module=True)
    assert json.loads(out) == AS_2
    reason = "because line 8 uses keras.utils.np_utils (--keras 3 selects Keras 3)"
    assert errors == f"nbkeras: keras is Keras 2 here, {reason}\n"
    assert said(tmp_path, "print(1)") == ("1\n", "")


@pytest.mark.process
def test_packages_and_spawned_processes_have_the_version_and_the_answer_of_the_process(tmp_path):
    facts = "import keras\nfacts = keras.__version__, keras.backend.backend()"
    (tmp_path / "package.py").write_text(facts, encoding="utf-8")
    source = """
        import multiprocessing
        def child():
            import package
            return package.facts
        if __name__ == "__main__":
            import package
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                assert pool.apply(child) == package.facts
            print(*package.facts)
        """
    assert said(tmp_path, source, "--keras", "2", "--backend", "tensorflow") == ("2.3.1 tensorflow\n", "")
    assert said(tmp_path, source, "--keras", "3", KERAS_BACKEND="tensorflow") == ("3.15.1 tensorflow\n", "")


@pytest.mark.process
def test_a_backend_that_a_script_chooses_has_no_effect_also_in_processes_that_it_spawns(tmp_path):
    source = """
        import os
        os.environ["KERAS_BACKEND"] = "jax"
        from concurrent.futures import ProcessPoolExecutor
        import multiprocessing
        import keras
        if __name__ == "__main__":
            with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
                print(keras.backend.backend(), pool.submit(keras.backend.backend).result())
        """
    assert said(tmp_path, source, "--keras", "3") == ("numpy numpy\n", "")
    assert said(tmp_path, source, "--keras", "2", "--backend", "tensorflow") == ("tensorflow tensorflow\n", "")


def test_a_backend_that_nbkeras_cannot_answer_with(tmp_path):
    message = "^nbkeras: .*the environment variable KERAS_BACKEND must be one of 'nbkeras', 'numpy', 'tens"
    with pytest.raises(
        AssertionError, match=f"{message}.*Unset the variable, or .*: python -m nbkeras --backend numpy"
    ):
        said(tmp_path, SHOWS, "--keras", "3", KERAS_BACKEND="jax")
    assert json.loads(said(tmp_path, SHOWS, "--keras", "3", "--backend", "numpy", KERAS_BACKEND="jax")[0]) == AS_3


def test_a_module_that_is_not_there(tmp_path):
    with pytest.raises(AssertionError, match="nbkeras: there is no module 'nothing' to run"):
        said(tmp_path, SHOWS, "--keras", "3", "-m", "nothing")


def test_a_package_runs_by_its_main_module(tmp_path):
    (tmp_path / "tool").mkdir()
    (tmp_path / "tool" / "__init__.py").write_text("", encoding="utf-8")
    program = "from keras.utils import np_utils\nprint(__name__)"
    (tmp_path / "tool" / "__main__.py").write_text(program, encoding="utf-8")
    out, errors = said(tmp_path, "", "-m", "tool")
    assert out == "__main__\n" and "keras is Keras 2 here, because line 1 uses keras.utils.np_utils" in errors


@pytest.fixture
def uninstalled():
    """Keras is not installed before the test, and not after it."""
    alias.uninstall()
    yield
    alias.uninstall()


@pytest.mark.usefixtures("uninstalled")
def test_the_versions_in_code(monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    nbkeras.install_as_keras(version=3, backend="tensorflow")
    import keras

    assert keras.version() == keras.__version__ == root.__version__ and nbkeras.version() == nbkeras.__version__
    assert keras.config.backend() == nbkeras.backend.backend() == "tensorflow"
    nbkeras.install_as_keras()  # as it is
    nbkeras.install_as_keras(version=3, backend="numpy")
    assert keras.config.backend() == "numpy"
    with pytest.raises(ImportError, match="keras already means Keras 3 in this process"):
        nbkeras.install_as_keras(version=2)
    alias.uninstall()
    assert nbkeras.config.backend() == "nbkeras" and "KERAS_BACKEND" not in os.environ
    with pytest.raises(ValueError, match="version must be 2 or 3, received 4"):
        nbkeras.install_as_keras(version=4)
    with pytest.raises(ValueError, match="as_keras: backend must be one of 'nbkeras', 'numpy', 'tensorflow', received"):
        nbkeras.install_as_keras(version=3, backend="theano")


@pytest.mark.usefixtures("uninstalled")
def test_the_file_of_the_caller_decides_without_a_version():
    # this file uses keras.src and keras.engine: keras.src exists in Keras 3 only
    nbkeras.install_as_keras()
    import keras

    assert keras.__version__ == root.__version__


@pytest.mark.usefixtures("uninstalled")
@pytest.mark.parametrize(
    ("version", "name", "message"),
    [
        (
            3,
            "keras.engine",
            "^keras.engine is a module of Keras 2, and .* Keras 3 in this process: start it with --keras 2",
        ),
        (2, "keras.src.saving", "^keras.src is a module of Keras 3, and keras means Keras 2 in this process"),
        (2, "keras.legacy.saving", "^keras.legacy.saving is a module of Keras 3, and keras means Keras 2 in this pro"),
        (
            3,
            "keras.src.trainers.epoch_iterator",
            r"^keras\.src\.trainers\.epoch_iterator is an internal module of Keras",
        ),
        (3, "keras.nothing", "No module named 'keras.nothing'"),
    ],
)
def test_a_module_that_is_missing_says_why(version, name, message):
    nbkeras.install_as_keras(version=version)
    with pytest.raises(ImportError, match=message):
        __import__(name)


def test_the_names_of_keras_3_are_those_of_the_page_of_parity():
    known = json.loads((SCRIPTS / "keras_3_names.json").read_text(encoding="utf-8"))
    assert known["version"] == root.__version__
    assert set(known["names"]["keras.backend"]) == BACKEND_OF_KERAS_3


def test_a_script_of_keras_3_imports_internal_names(run):
    run("""
        import io
        import numpy as np
        import keras
        from keras import layers, ops
        from keras.src import backend
        from keras.src.backend import get_keras_mask, set_keras_mask
        from keras.src.backend.common.variables import KerasVariable
        from keras.src.losses.losses import LossFunctionWrapper
        from keras.src.saving import serialization_lib
        from keras.src.saving.saving_lib import H5IOStore, load_model, save_model
        from keras.src.utils.tracking import no_automatic_dependency_tracking

        model = keras.Sequential([keras.Input((3,)), layers.Dense(2), layers.Dense(1)])
        file = io.BytesIO()
        save_model(model, file)
        x = np.ones((2, 3), "float32")
        assert (load_model(io.BytesIO(file.getvalue())).predict(x, verbose=0) == model.predict(x, verbose=0)).all()
        assert isinstance(model.layers[0].kernel, KerasVariable) and backend.is_tensor(ops.ones(2))
        assert [each.name for each in model._flatten_layers(include_self=False)] == [each.name for each in model.layers]
        assert isinstance(model, keras.Operation) and not model.input.sparse

        store = H5IOStore("weights.h5", mode="w")
        group = store.make("lora/0")
        group["a"], store.make("lora")["rank"] = model.layers[0].kernel, 4
        store.close()
        store = H5IOStore("weights.h5")
        assert (store.get("lora/0")["a"][()] == model.layers[0].kernel.numpy()).all() and not dict(store.get("other"))
        assert int(store.get("lora")["rank"][()]) == 4
        store.close()

        mask = ops.array([True, False])
        tensor = ops.ones((2, 3))
        set_keras_mask(tensor, mask)
        assert get_keras_mask(tensor) is mask

        class Owner(layers.Layer):
            @no_automatic_dependency_tracking
            def hold(self, value):
                self.held = value
                return self
        assert Owner().hold(3).held == 3

        @keras.saving.register_keras_serializable()
        class Own(LossFunctionWrapper):
            def __init__(self, scale=2.0, name="own", **kwargs):
                super().__init__(lambda y, p, scale: ops.mean(ops.abs(y - p)) * scale, name=name, scale=scale, **kwargs)
        assert float(Own()(np.zeros(3), np.ones(3))) == 2.0 and Own().get_config()["scale"] == 2.0
        config = serialization_lib.serialize_keras_object(Own(3.0))
        assert float(serialization_lib.deserialize_keras_object(config)(np.zeros(3), np.ones(3))) == 3.0

        x = keras.Input((3,))
        function = keras.Function(inputs=x, outputs=[x * 2.0, ops.sum(x)])
        assert [np.shape(each) for each in function(np.ones((2, 3)))] == [(2, 3), ()]
        spec = backend.compute_output_spec(lambda a, factor: ops.sum(a * factor, axis=1), x, factor=2.0)
        assert isinstance(spec, keras.KerasTensor) and spec.shape == (None,)
        backend.compute_output_spec(model, np.ones((2, 3), "float32"))
        """)


def test_the_page_lists_the_internal_modules():
    page = (SCRIPTS.parent / "docs" / "packages.md").read_text(encoding="utf-8")
    families = next(line for line in page.splitlines() if line.startswith("| the files of "))
    assert [name for name in modules._FILES if f"`{name}`" not in families] == []
    assert [name for name in SRC if name and f"`{name}`" not in page and name not in modules._of_families()] == []


def test_helpers_of_data_adapters(run):
    run("""
        import numpy as np
        from keras.src.trainers.data_adapters import data_adapter_utils as utils
        from pytest import raises

        x, y = np.arange(10.0), {"a": np.arange(10)}
        first, last = utils.train_validation_split((x, y, None), 0.2)
        assert first[0].shape == (8,) and last[1]["a"].tolist() == [8, 9] and last[2] is None
        weights = utils.class_weight_to_sample_weights(np.array([[0], [2], [1]]), {0: 2.0, 1: 3.0})
        assert weights.tolist() == [2.0, 1.0, 3.0]
        assert utils.list_to_tuple([1, 2]) == (1, 2) and utils.unpack_x_y_sample_weight((x,)) == (x, None, None)
        utils.check_data_cardinality((x, y, None))
        with raises(ValueError, match="the same number of samples, received .3, 10."):
            utils.check_data_cardinality((x, x[:3]))
        with raises(ValueError, match="validation_split=0.0 leaves no samples"):
            utils.train_validation_split(x, 0.0)
        """)
