"""Data sets made of rows: windows of a series, two parts of a data set; Keras 2's enqueuers; sources of a graph."""

import time

import numpy as np
import pytest

from nbkeras import layers, models, utils

SERIES = np.arange(20.0)


class TestTimeseries:
    def test_windows_and_targets(self):
        data = utils.timeseries_dataset_from_array(SERIES, SERIES[5:], 5, batch_size=4)
        x, y = data[0]
        assert len(data) == 4 and x.shape == (4, 5)
        np.testing.assert_array_equal(x[1], SERIES[1:6])
        np.testing.assert_array_equal(y, SERIES[5:9])
        assert sum(len(y) for _, y in data) == 15

    def test_stride_rate_and_bounds(self):
        data = utils.timeseries_dataset_from_array(
            SERIES, None, 3, sequence_stride=2, sampling_rate=3, start_index=2, end_index=15
        )
        assert data[0].tolist() == [[2, 5, 8], [4, 7, 10], [6, 9, 12], [8, 11, 14]]

    def test_shuffle_and_samples(self):
        data = utils.timeseries_dataset_from_array(SERIES, None, 5, batch_size=None, shuffle=True, seed=1)
        first = [window[0] for window in data]
        assert sorted(first) == list(range(16)) != first and data[0].shape == (5,)
        data.on_epoch_end()
        assert [window[0] for window in data] != first

    def test_the_first_batches_the_rest_and_changed_ones(self):
        data = utils.timeseries_dataset_from_array(SERIES, SERIES[5:], 5, batch_size=4)  # 15 windows
        first, rest = data.take(1), data.skip(1)
        assert [len(part) for part in (first, rest, data.take(9), data.take(-1), data.skip(9), data.skip(-1))] == [
            1, 3, 4, 4, 0, 0,
        ]  # fmt: skip
        np.testing.assert_array_equal(first[0][1], SERIES[5:9])
        np.testing.assert_array_equal(rest[0][1], SERIES[9:13])
        doubled = data.map(lambda x, y: (2 * x, y[:, None]), num_parallel_calls=8).cache().prefetch(2)
        np.testing.assert_array_equal(doubled[3][0], 2 * data[3][0])
        assert doubled[3][1].shape == (3, 1)
        windows = utils.timeseries_dataset_from_array(SERIES, None, 5, batch_size=4).map(layers.Rescaling(0.5))
        np.testing.assert_array_equal(windows[0], SERIES[np.add.outer(np.arange(4), np.arange(5))] / 2)

    def test_samples_are_changed_one_by_one_and_then_put_into_batches(self):
        data = utils.timeseries_dataset_from_array(SERIES, SERIES[5:], 5, batch_size=None).take(3)
        changed = data.map(lambda x, y: {"mean": x.mean(), "target": layers.Rescaling(2.0)(y)})
        assert changed[2] == {"mean": 4, "target": 14}
        (batch,) = changed.batch(4)
        assert batch["mean"].tolist() == [2, 3, 4] and batch["target"].tolist() == [10, 12, 14]

    def test_the_first_batches_of_shuffled_data_are_its_first_batches(self):
        data = utils.timeseries_dataset_from_array(SERIES, None, 5, shuffle=True, seed=1, batch_size=4)
        assert sorted(data.take(1)[0][:, 0]) == sorted(data[0][:, 0])

    def test_a_model_learns_from_it(self):
        model = models.Sequential([layers.Input((5,)), layers.Dense(1)])
        model.compile("sgd", "mse")
        history = model.fit(utils.timeseries_dataset_from_array(SERIES / 20, SERIES[5:], 5), verbose=0)
        assert np.isfinite(history.history["loss"]).all()

    @pytest.mark.parametrize(
        "arguments, message",
        [
            ({"start_index": 20}, "within the 20 rows"),
            ({"start_index": 5, "end_index": 5}, "received 5 and 5"),
            ({"end_index": 20}, "within the 20 rows"),
            ({"sampling_rate": 0}, "sampling_rate must be from 1 to 19"),
            ({"sequence_stride": 20}, "sequence_stride must be from 1 to 19, less than the rows of data, received 20"),
            ({"sampling_rate": 19}, "20 rows hold no window of 3 rows, 19 apart"),
            ({"sequence_length": 0}, "sequence_length must be at least 1"),
            ({"batch_size": 0}, "batch_size must be a positive number, or None"),
        ],
    )
    def test_mistakes_are_explained(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            utils.timeseries_dataset_from_array(SERIES, None, **{"sequence_length": 3, **arguments})


class TestSplit:
    def test_arrays(self):
        left, right = utils.split_dataset((SERIES, {"a": SERIES * 2}), left_size=0.8, batch_size=32)
        x, y = left[0]
        assert len(x) == 16 and right[0][0].tolist() == [16, 17, 18, 19]
        np.testing.assert_array_equal(y["a"], x * 2)
        assert len(left.batch(5)) == 4

    def test_sizes_and_shuffle(self):
        left, right = utils.split_dataset(SERIES, 3, 4, batch_size=32)
        assert left[0].tolist() == [0, 1, 2] and right[0].tolist() == [16, 17, 18, 19]
        left, right = utils.split_dataset(SERIES[:5], 0.7, 0.3, batch_size=32)  # 3.5 and 1.5, both rounded up
        assert left[0].tolist() == [0, 1, 2, 3] and right[0].tolist() == [4]
        left, right = utils.split_dataset(SERIES, np.float32(0.25), np.int64(2), batch_size=32)
        assert len(left[0]) == 5 and len(right[0]) == 2
        left, right = utils.split_dataset(SERIES, right_size=5, shuffle=True, seed=2, batch_size=32)
        assert sorted([*left[0], *right[0]]) == SERIES.tolist() and len(right[0]) == 5

    def test_single_samples(self):
        left, right = utils.split_dataset((SERIES[:5], SERIES[:5] * 2), left_size=3)
        assert list(left) == [(0, 0), (1, 2), (2, 4)] and [len(x) for x, _ in right.batch(2)] == [2]

    def test_items_of_a_stream(self):
        class Data(utils.PyDataset):
            def __len__(self):
                return 4

            def __getitem__(self, index):
                return np.full(3, index), np.full(3, -index)

        left, right = utils.split_dataset(Data(), left_size=3)
        assert [y[0] for _, y in left] == [0, -1, -2] and [x[0] for x, _ in right] == [3]
        left, right = utils.split_dataset((i for i in range(4)), left_size=0.5)
        assert list(left) == [0, 1] and list(right) == [2, 3]
        with pytest.raises(IndexError, match="batch 2 is out of range: there are 2 batches"):
            left[2]

    @pytest.mark.parametrize(
        "arguments, error, message",
        [
            ({}, ValueError, "needs left_size, right_size or both"),
            ({"left_size": 1.5}, ValueError, "fraction between 0 and 1"),
            ({"left_size": 21}, ValueError, "left_size must be .* up to 20, received 21"),
            ({"left_size": "3"}, TypeError, "left_size must be a number"),
            ({"left_size": 15, "right_size": 6}, ValueError, "cannot be split into 15 and 6"),
            ({"left_size": 20}, ValueError, "cannot be split into 20 and 0"),
        ],
    )
    def test_mistakes_are_explained(self, arguments, error, message):
        with pytest.raises(error, match=message):
            utils.split_dataset(SERIES, **arguments)
        with pytest.raises(ValueError, match="same number of samples"):
            utils.split_dataset((SERIES, SERIES[1:]), 3)
        with pytest.raises(ValueError, match=r"same number of samples, received shapes \[\(\), \(\)\]"):
            utils.split_dataset([1, 2], 1)


class Numbers(utils.PyDataset):
    def __init__(self, count=5, fails=False):
        self.count, self.fails, self.factor = count, fails, 1

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        if self.fails:
            raise IndexError("a batch that is not there")
        return index * self.factor

    def on_epoch_end(self):
        self.factor *= 10
        self.count -= 1


class TestEnqueuers:
    def test_order_and_epochs(self):
        enqueuer = utils.OrderedEnqueuer(Numbers())
        enqueuer.start(workers=3, max_queue_size=4)
        assert enqueuer.is_running()
        batches = enqueuer.get()
        assert [next(batches) for _ in range(9)] == [0, 1, 2, 3, 4, 0, 10, 20, 30]
        enqueuer.stop()
        assert not enqueuer.is_running() and list(batches) == []

    def test_shuffle(self):
        enqueuer = utils.OrderedEnqueuer(Numbers(50), shuffle=True)
        enqueuer.start(2)
        batches = enqueuer.get()
        found = [next(batches) for _ in range(50)]
        assert sorted(found) == list(range(50)) != found
        enqueuer.stop()

    def test_generators_end_with_all_batches_whoever_made_the_last(self):
        def slow():
            for i in range(30):
                time.sleep(0.001)
                yield i

        for workers in (1, 3, 8):
            enqueuer = utils.GeneratorEnqueuer(slow())
            enqueuer.start(workers)
            assert sorted(enqueuer.get()) == list(range(30))
            assert not enqueuer.is_running()

    def test_errors_come_out(self):
        enqueuer = utils.OrderedEnqueuer(Numbers(fails=True))
        enqueuer.start(2)
        with pytest.raises(IndexError, match="a batch that is not there"):
            next(enqueuer.get())
        assert not enqueuer.is_running()
        with pytest.raises(ValueError, match="has no batches: its length is 0"):
            utils.OrderedEnqueuer(Numbers(0)).start()


def test_sources_of_a_graph():
    a, b, c = layers.Input((3,)), layers.Input((3,)), layers.Input((3,))
    shared = layers.Dense(3)
    out = layers.Concatenate()([layers.Add()([shared(b), shared(a)]), shared(b)])
    assert utils.get_source_inputs(out) == [b, a]
    assert utils.get_source_inputs(c) == [c]


def test_rows_of_an_hdf5_file_in_the_place_of_an_array(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = str(tmp_path / "x.h5")
    with h5py.File(path, "w") as file:
        file["x"] = SERIES.reshape(10, 2)
    from nbkeras.compat.keras2.hdf5 import HDF5Matrix

    rows = HDF5Matrix(path, "x", start=2, end=8, normalizer=lambda x: x + 1)
    assert rows.shape == (6, 2) and len(rows) == 6 and rows.ndim == 2 and rows.size == 12
    assert rows[0].tolist() == [5, 6] and rows[[0, 2]].shape == (2, 2) and rows[np.array([1, 3])].shape == (2, 2)
    np.testing.assert_array_equal(rows[1:3], SERIES.reshape(10, 2)[3:5] + 1)
    np.testing.assert_array_equal(np.asarray(rows), SERIES.reshape(10, 2)[2:8] + 1)
    for beyond in (6, slice(0, 7), [0, 6]):
        with pytest.raises(IndexError, match="row 6 is out of range: there are 6 rows"):
            rows[beyond]
