"""Floor 3: Keras's names for training by several processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from nbkeras import random
from nbkeras.distribution.meshes import DeviceMesh, TensorLayout, job, list_devices
from nbkeras.engine import ranks, settings, sharding
from nbkeras.engine.annotations import briefly
from nbkeras.engine.lazy_names import LazyModule
from nbkeras.engine.outside import integer

mpi = LazyModule("nbkeras.distribution.mpi")
_STARTED_BY = ("PMI_SIZE", "PMIX_RANK", "OMPI_COMM_WORLD_SIZE")  # variables that MPI launchers set


def initialize(
    job_addresses: str | None = None,
    num_processes: int | None = None,
    process_id: int | None = None,
    timeout: float | None = 20.0,
) -> None:
    """Join the processes that mpiexec started: `mpiexec -n 4 python train.py`. Call it before any computation.

    A script started without mpiexec is a job of one process. The arguments, and Keras's variables
    KERAS_DISTRIBUTION_JOB_ADDRESSES, ..._NUM_PROCESSES and ..._PROCESS_ID, are not needed: MPI knows them. The processes of a
    host share its processors: each gets an equal number of threads, unless NUMBA_NUM_THREADS is set. A second call does nothing.

    Args:
        job_addresses: Must be None: give the hosts to the MPI launcher, as in `mpiexec -hosts a,b`.
        num_processes: None, or the number of processes that mpiexec started.
        process_id: None, or the rank of this process in MPI.
        timeout: The maximum number of seconds that a process may keep others waiting; then the job is aborted. A process
            that sends no message for half of this time aborts it too. Compilation does not count. None for no limit.

    Raises:
        ImportError: if mpi4py or an MPI library is missing.
        NotImplementedError: on Windows.
        ValueError: for job_addresses, for numbers that differ from MPI's, and for a timeout that is not a positive number.

    Example:
        >>> keras.distribution.initialize()  # doctest: +SKIP
        >>> keras.distribution.set_distribution(keras.distribution.DataParallel())  # doctest: +SKIP
    """
    addresses = job_addresses or os.environ.get("KERAS_DISTRIBUTION_JOB_ADDRESSES")
    if addresses:
        raise ValueError(
            f"nbkeras starts no processes on other hosts, received job_addresses={briefly(addresses)}: give the hosts to the "
            "MPI launcher, as in `mpiexec -hosts a,b -n 2 python train.py`"
        )
    if timeout is not None and not (isinstance(timeout, int | float) and timeout > 0):
        raise ValueError(f"timeout must be a positive number of seconds or None, received {briefly(timeout)}")
    if os.name == "nt":
        raise NotImplementedError(
            "nbkeras.distribution.initialize is not supported on Windows, only on Linux and macOS"
        )
    if job.group is None:
        job.group = mpi.join(timeout)
    _check("num_processes", num_processes, job.group.size, "processes")
    _check("process_id", process_id, job.group.rank, "as the rank of this one")


def _check(name: str, given: int | None, found: int, what: str) -> None:
    variable = f"KERAS_DISTRIBUTION_{name.upper()}"
    own = os.environ.get(variable)
    if given is None and own is not None:
        given = integer(own)
        if given is None:
            raise ValueError(f"{variable} must be a number, received {briefly(own)}: correct or unset it")
    if given not in (None, found):
        raise ValueError(f"{name}={given} does not match: MPI has {found} {what}. Omit {name}, or change `mpiexec -n`")


class DataParallel:
    """Each process has the whole model and a part of every batch; gradients are summed over all processes.

    Args:
        device_mesh: A DeviceMesh of all devices of the job, whose first axis is that of the batch; None to make one.
        devices: None, or exactly `list_devices()`.
        auto_shard_dataset: Whether each process takes its part of the data that `fit` gets; False if each process
            passes different data.

    Raises:
        ValueError: for other devices, and for a mesh that has several devices along another axis than the first.

    Example:
        >>> with keras.distribution.DataParallel().scope():
        ...     keras.distribution.distribution()
        <DataParallel of 1 process>
    """

    def __init__(
        self, device_mesh: Any = None, devices: Sequence[str] | None = None, auto_shard_dataset: bool = True
    ) -> None:
        if devices is not None and list(devices) != list_devices():
            raise ValueError(
                f"DataParallel computes on all devices of the job, {list_devices()}, received devices={briefly(devices)}: "
                "choose their number by `mpiexec -n`"
            )
        found = list_devices()
        mesh = DeviceMesh((len(found),), ["batch"], found) if device_mesh is None else device_mesh
        self.device_mesh = whole(mesh, 0)
        self.auto_shard_dataset = auto_shard_dataset
        self.batch_dim_name = self.device_mesh.axis_names[0]

    @property
    def num_processes(self) -> int:
        """The number of processes."""
        return 1 if job.group is None else job.group.size

    num_model_replicas = num_processes

    @property
    def process_id(self) -> int:
        """The rank of this process: 0 to num_processes - 1."""
        return 0 if job.group is None else job.group.rank

    data_shard_id = process_id

    def get_data_layout(self, data_shape: Sequence[int]) -> TensorLayout:
        """The layout of a batch: its rows are divided.

        Args:
            data_shape: The shape of the batch.
        """
        return TensorLayout((self.batch_dim_name, *[None] * (len(data_shape) - 1)), self.device_mesh)

    def get_variable_layout(self, variable: Any) -> TensorLayout:
        """The layout of a variable: each process has all of it.

        Args:
            variable: The variable.
        """
        return TensorLayout([None] * len(variable.shape), self.device_mesh)

    def get_tensor_layout(self, path: str) -> TensorLayout | None:
        """The layout of a tensor within the model: None, for no other one than it has.

        Args:
            path: The path of the tensor.
        """
        return None

    @contextlib.contextmanager
    def scope(self) -> Iterator[None]:
        """Make this the distribution in a block.

        Example:
            >>> with keras.distribution.DataParallel().scope():
            ...     model = keras.Sequential([layers.Dense(1)])
        """
        before = distribution()
        set_distribution(self)
        try:
            yield
        finally:
            set_distribution(before)

    def __repr__(self) -> str:
        number = self.num_processes
        return f"<{type(self).__name__} of {number} process{'es' if number > 1 else ''}>"


def whole(mesh: Any, axis: int) -> DeviceMesh:
    """A mesh of all devices of the job along one axis. Raises ValueError for others: nbkeras does not split models."""
    if not isinstance(mesh, DeviceMesh):
        raise ValueError(f"device_mesh must be a DeviceMesh, received {briefly(mesh)}")
    if mesh.devices.ravel().tolist() != list_devices() or mesh.shape[axis] != mesh.devices.size:
        raise ValueError(
            f"each process has the whole model, so a mesh must have all devices of the job, {list_devices()}, along its axis "
            f"{mesh.axis_names[axis]!r}, received {mesh} of the devices {mesh.devices.ravel().tolist()}"
        )
    return mesh


def distribution() -> DataParallel | None:
    """The distribution that was set, or None.

    Example:
        >>> keras.distribution.distribution() is None
        True
    """
    return ranks.distribution()


def set_distribution(value: DataParallel | None) -> None:
    """Train with this distribution from now on.

    If the ranks get the same data, all ranks get the random states of nbkeras, NumPy and Python from rank 0. From then on all
    ranks of a script draw the same random numbers, for example for the order of files.

    Args:
        value: A DataParallel; None lets each process compute by itself.

    Raises:
        TypeError: for anything else.
        RuntimeError: if mpiexec started several processes and `initialize` was not called.

    Example:
        >>> keras.distribution.set_distribution(None)
    """
    if value is not None and not isinstance(value, DataParallel):
        raise TypeError(f"set_distribution takes a DataParallel or None, received {briefly(value)}")
    if value is not None and job.group is None and any(os.environ.get(name, "1") != "1" for name in _STARTED_BY):
        raise RuntimeError(
            "this process was started by mpiexec, but nbkeras.distribution.initialize() was not called: without it each process "
            "would train alone. Call it at the beginning of the script"
        )
    begins = value is not None and ranks.distribution() is None
    ranks.set_current(None if value is None else job.group, value)
    if begins and value.auto_shard_dataset:  # type: ignore[union-attr]
        state, generators = sharding.agreed((settings.random_state(), random._global_state()))
        settings.restore_random_state(state)
        random._restore_global_state(generators)
