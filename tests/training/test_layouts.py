"""Meshes, layouts and ModelParallel: what they answer is what Keras answers on one device, and nothing is split."""

import numpy as np
import pytest
from made_models import compiled

import nbkeras as keras
from nbkeras import distribution as d
from nbkeras.distribution import meshes


@pytest.fixture
def mesh():
    return d.DeviceMesh((1, 1), ("batch", "model"))


@pytest.fixture
def layouts(mesh):
    found = d.LayoutMap(mesh)
    found[".*dense.*kernel"] = (None, "model")
    found[".*bias"] = d.TensorLayout(("model",))
    return found


class Four:
    """A job of four processes."""

    size, rank = 4, 1


@pytest.fixture
def four(monkeypatch):
    monkeypatch.setattr(meshes.job, "group", Four())


def test_a_mesh_of_one_device(mesh):
    assert (mesh.shape, mesh.axis_names, mesh.devices.shape) == ((1, 1), ("batch", "model"), (1, 1))
    assert repr(mesh) == "<DeviceMesh shape=(1, 1), axis_names=('batch', 'model')>"


def test_layouts_by_patterns(layouts, mesh):
    assert layouts["net/dense_1/kernel"].axes == (None, "model") and layouts["net/dense_1/bias"].device_mesh is mesh
    assert (layouts["other"], len(layouts), list(layouts)) == (None, 2, [".*dense.*kernel", ".*bias"])
    del layouts[".*bias"]
    assert layouts["net/dense_1/bias"] is None


def test_a_model_trains_in_the_scope_of_model_parallel(layouts, mesh):
    parallel = d.ModelParallel(layout_map=layouts)
    assert (parallel.num_model_replicas, parallel.data_shard_id, parallel.batch_dim_name) == (1, 0, "batch")
    assert parallel.get_data_layout((8, 3)).axes == ("batch", None)
    with parallel.scope():
        assert d.distribution() is parallel
        model = compiled(keras.Sequential([keras.layers.Dense(3, input_shape=(2,)), keras.layers.PReLU()]))
        model.fit(np.ones((4, 2)), np.ones((4, 3)), verbose=0)
        assert parallel.get_variable_layout(model.layers[0].kernel).axes == (None, "model")
        assert parallel.get_variable_layout(model.layers[1].weights[0]).axes == (None,)
        assert parallel.get_tensor_layout("other") is None
    assert d.distribution() is None


def test_data_parallel_over_a_mesh(mesh):
    parallel = d.DataParallel(mesh)
    assert parallel.device_mesh is mesh and parallel.get_variable_layout(keras.Variable(np.ones((2, 2)))).is_whole
    assert d.DataParallel().device_mesh.axis_names == ("batch",)


def test_meshes_of_several_processes(four):
    assert d.DataParallel(d.DeviceMesh((4,), ["data"])).batch_dim_name == "data"
    mesh = d.DeviceMesh((1, 4), ["model", "data"])
    layouts = d.LayoutMap(mesh)
    layouts[".*kernel"] = ("model", None)
    assert d.ModelParallel(layout_map=layouts, batch_dim_name="data").num_model_replicas == 4
    layouts[".*bias"] = ("data",)
    with pytest.raises(ValueError, match=r"does not split variables, but the layouts of \['\.\*bias'\] divide them"):
        d.ModelParallel(layout_map=layouts, batch_dim_name="data")
    with pytest.raises(ValueError, match="must have all devices of the job.*along its axis 'model'"):
        d.ModelParallel(layout_map=d.LayoutMap(mesh))
    with pytest.raises(ValueError, match="nbkeras leaves tensors whole"):
        d.distribute_tensor(np.ones((4, 4)), d.TensorLayout(("data", None), mesh))


def test_tensors_stay_whole(mesh):
    layout = d.TensorLayout((None, "model"), mesh)
    np.testing.assert_array_equal(d.distribute_tensor(np.eye(2), layout), np.eye(2))
    np.testing.assert_array_equal(d.distribute_tensor([1.0], None), [1.0])


MISTAKES = {
    "too many devices": (lambda: d.DeviceMesh((2,), ["batch"]), "shape=.2,. does not fit 1 devices"),
    "an empty mesh": (lambda: d.DeviceMesh((), []), "needs a size and a name for each axis, received"),
    "names of axes": (lambda: d.DeviceMesh((1,), ["a", "b"]), "needs a size and a name for each axis, received"),
    "unknown axis": (lambda: d.TensorLayout(("x",), d.DeviceMesh((1,), ["a"])), "has no axes .'x'.: expected names of"),
    "mesh set twice": (
        lambda: setattr(d.TensorLayout(("a",), d.DeviceMesh((1,), ["a"])), "device_mesh", 3),
        "the mesh of a layout is set once",
    ),
    "no layouts": (lambda: d.ModelParallel(), "needs layout_map, a LayoutMap, received None"),
    "unknown batch axis": (
        lambda: d.ModelParallel(layout_map=d.LayoutMap(d.DeviceMesh((1,), ["a"])), batch_dim_name="b"),
        "batch_dim_name must be an axis of the mesh",
    ),
    "another device": (
        lambda: d.DataParallel(d.DeviceMesh((1,), ["a"], ["cpu:9"])),
        "must have all devices of the job",
    ),
    "too many axes": (
        lambda: d.distribute_tensor(np.ones(2), d.TensorLayout((None, None), d.DeviceMesh((1,), ["a"]))),
        "has too many axes",
    ),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_mistakes_are_explained(name):
    call, message = MISTAKES[name]
    with pytest.raises(ValueError, match=message):
        call()


def test_mistakes_in_a_layout_map(layouts):
    with pytest.raises(ValueError, match="has the pattern '.*bias' already"):
        layouts[".*bias"] = ("model",)
    with pytest.raises(ValueError, match="must be a TensorLayout or a tuple of axes, received 3"):
        layouts["x"] = 3
    layouts[".*dense.*"] = (None,)
    with pytest.raises(ValueError, match="fits several patterns of the LayoutMap"):
        layouts["net/dense/kernel"]
