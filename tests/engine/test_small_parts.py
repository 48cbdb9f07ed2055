"""Small parts of the engine: messages, configurations, names, and what is the same without a GPU or other processes."""

import sys
import types

import numba
import numpy as np
import pytest
from mistakes import mistakes

from nbkeras import activations, config, layers, ops, utils
from nbkeras.distribution import data_parallel, meshes
from nbkeras.engine import settings
from nbkeras.engine.devices import synchronize
from nbkeras.engine.tensor import Variable
from nbkeras.engine.user_errors import SetByInit, optional_import


def test_a_compiled_function_takes_no_tensor():
    with pytest.raises(
        TypeError, match="called with a Tensor of shape .2,.: kernels take arrays. Call it by device.launch"
    ):
        numba.njit(lambda x: 1)(ops.ones(2))


def test_attributes_that_init_sets_are_known_to_the_class():
    assert isinstance(layers.Dense.built, SetByInit)


def test_a_config_shows_its_entries_and_whether_it_is_frozen():
    config = utils.Config(units=3)
    assert repr(config) == "<Config {'units': 3}>" and not config.frozen
    config.freeze()
    assert config.frozen


def test_a_package_that_is_there_but_broken_tells_why():
    with (
        pytest.raises(
            ImportError, match="it needs h5py.*a package is installed, but cannot be imported: no symbol x.$"
        ),
        optional_import("it needs h5py", "files"),
    ):
        raise ImportError("no symbol x")
    with (
        pytest.raises(ImportError, match=r"or pip install h5py safetensors$"),
        optional_import("it needs h5py", "files"),
    ):
        raise ModuleNotFoundError("No module named 'h5py'")


def test_names_that_are_left_out_tell_why():
    with pytest.raises(
        AttributeError, match="nbkeras.layers.JaxLayer is not offered: it runs code of another framework"
    ):
        _ = layers.JaxLayer


def test_a_function_may_be_named_as_a_class():
    assert activations.deserialize({"class_name": "relu", "config": {}}) is activations.relu


def test_an_unknown_data_format():
    with pytest.raises(ValueError, match="must be 'channels_last' or 'channels_first', received 'last'"):
        config.set_image_data_format("last")


test_mistakes_are_explained = mistakes(
    [
        (lambda: len(ops.convert_to_tensor(1.0)), TypeError, "a tensor without axes has no length"),
        (
            lambda: Variable(np.ones(2), name="v").assign(np.ones(3)),
            ValueError,
            r"'v': expected shape \(2,\), received \(3,\)",
        ),
    ]
)


def test_nothing_waits_for_a_gpu_that_is_not_there():
    synchronize()


def test_the_random_numbers_of_a_loaded_torch_are_restored(monkeypatch):
    torch = types.SimpleNamespace(state=1)
    torch.get_rng_state = lambda: torch.state
    torch.set_rng_state = lambda state: setattr(torch, "state", state)
    monkeypatch.setitem(sys.modules, "torch", torch)
    state = settings.random_state()
    torch.state = 2
    settings.restore_random_state(state)
    assert torch.state == 1


def test_numbers_that_do_not_match_those_of_mpi(monkeypatch):
    with pytest.raises(
        ValueError, match="num_processes=3 does not match: MPI has 2 processes. Omit num_processes, or change"
    ):
        data_parallel._check("num_processes", 3, 2, "processes")
    monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", "1")
    data_parallel._check("process_id", None, 1, "as the rank of this one")
    with pytest.raises(ValueError, match="process_id=1 does not match: MPI has 0 as the rank of this one"):
        data_parallel._check("process_id", None, 0, "as the rank of this one")
    monkeypatch.setenv("KERAS_DISTRIBUTION_PROCESS_ID", "first")
    with pytest.raises(
        ValueError, match="KERAS_DISTRIBUTION_PROCESS_ID must be a number, received 'first': correct or unset"
    ):
        data_parallel._check("process_id", None, 0, "as the rank of this one")


def test_devices_of_one_process():
    assert meshes.get_device_count("tpu") == 0
    assert repr(data_parallel.DataParallel()) == "<DataParallel of 1 process>"
    with pytest.raises(ValueError, match="device_type must be 'cpu', 'gpu' or None, received 'disk'"):
        data_parallel.list_devices("disk")


def test_windows_has_no_ranks(monkeypatch):
    monkeypatch.setattr(data_parallel, "os", types.SimpleNamespace(name="nt", environ={}))
    with pytest.raises(NotImplementedError, match="initialize is not supported on Windows, only on Linux and macOS"):
        data_parallel.initialize()
