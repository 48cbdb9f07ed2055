"""Arrays, dicts, tables and streams become batches with one layout, without a model."""

import gc
import weakref

import numpy as np
import pytest

from nbkeras.data.conversion import ModelSpec, adapt
from nbkeras.data.input_matching import GraphInputs
from nbkeras.data.output_matching import Output
from nbkeras.layers import Input
from nbkeras.models import Model

X, Y = np.arange(20.0).reshape(10, 2), np.arange(10)


def adapter(x, *others, spec, **options):
    return adapt(lambda first: spec, x, *others, **options)


def data_of(data):
    """The data that a step would get for each batch of an epoch."""
    return [batch.layout.pack(rows_of(batch)) for batch in data.epoch()]


def rows_of(batch):
    return [None if leaf is None else np.asarray(leaf[batch.rows]) for leaf in batch.leaves]


def test_arrays_become_batches_of_x_and_y():
    first, *_, last = data_of(adapter(X, Y, spec=ModelSpec(), batch_size=4))
    np.testing.assert_array_equal(first[0], X[:4])
    np.testing.assert_array_equal(last[1], Y[8:])
    assert first[0].dtype == np.float32 and first[1].dtype == np.int32


def test_structures_come_back_as_they_were_passed():
    spec = ModelSpec(outputs=(Output("a"), Output("b")))
    feed = adapter({"p": X, "q": [X, Y]}, {"b": Y, "a": X}, [None, Y], spec=spec, batch_size=10)
    ((x, y, weights),) = data_of(feed)
    np.testing.assert_array_equal(x["q"][1], Y)
    np.testing.assert_array_equal(y["b"], Y)
    assert list(y) == ["a", "b"] and weights[0] is None and weights[1].dtype == np.float32


def test_inputs_alone_are_x_alone():
    (x,) = data_of(adapter(X, spec=ModelSpec()))
    np.testing.assert_array_equal(x, X)


def test_one_target_goes_to_the_output_that_has_a_loss():
    spec = ModelSpec(outputs=(Output("a", has_loss=False), Output("b")))
    ((_, y),) = data_of(adapter(X, Y, spec=spec))
    assert y[0] is None
    np.testing.assert_array_equal(y[1], Y)


def test_class_weights_become_sample_weights():
    ((_, _, weights),) = data_of(adapter(X, Y % 2, np.full(10, 2.0), {1: 3.0}, spec=ModelSpec()))
    np.testing.assert_array_equal(weights, np.where(Y % 2, 6.0, 2.0))


def test_class_numbers_must_exist():
    with pytest.raises(ValueError, match="targets of output 'a' are class numbers from 0 to 9.* must be 0 to 8"):
        adapter(X, Y, spec=ModelSpec(outputs=(Output("a", classes=9),)))
    adapter(X, Y, spec=ModelSpec(outputs=(Output("a", classes=9, ignored=9),)))


def test_a_stream_has_the_layout_of_its_first_item_and_loses_none():
    items = iter([(X[:4], Y[:4]), (X[4:], Y[4:])])
    feed = adapter(items, spec=ModelSpec())
    assert feed.steps is None
    np.testing.assert_array_equal(np.concatenate([y for _, y in data_of(feed)]), Y)
    with pytest.raises(ValueError, match="must all have the same structure"):
        data_of(adapter(iter([(X, Y), X]), spec=ModelSpec()))


def test_a_sequence_makes_each_batch_once():
    asked = []
    item = {"__len__": lambda self: 2, "__getitem__": lambda self, index: asked.append(index) or (X, Y)}
    feed = adapter(type("Counting", (), item)(), spec=ModelSpec())
    assert feed.steps == 2 and len(data_of(feed)) == 2 and asked == [0, 1]


def test_items_of_a_stream_do_not_stay_in_memory():
    made = []

    def items():
        for _ in range(3):
            array = np.ones((4, 2), np.float32)
            made.append(weakref.ref(array))
            yield array

    batches = adapter(items(), spec=ModelSpec()).epoch()
    for _ in range(2):
        next(batches)
    gc.collect()
    assert made[0]() is None


def test_inputs_of_a_graph_are_matched_by_name_and_cast():
    a, b = Input((2,), name="a"), Input((1,), name="b", dtype="int32")
    graph = Model([a, b], [a, b])._graph
    spec = ModelSpec(inputs=GraphInputs(graph, "m"), input_count=2)
    (x,) = data_of(adapter({"b": Y, "a": X, "other": Y}, spec=spec))
    assert x["b"].shape == (10, 1) and x["b"].dtype == np.int32 and list(x) == ["a", "b"]
    with pytest.raises(ValueError, match="input 'a' of model 'm' expects shape"):
        adapter([Y[:, None], Y], spec=spec)


def test_a_model_without_outputs_is_built_for_the_first_data_of_a_stream_and_loses_none():
    class Doubled(Model):
        def call(self, x):
            return {"found": x * 2.0}

    model, rows = Doubled(), iter([(X[:4], {"found": Y[:4]}), (X, {"found": Y})])
    assert model.output_names == [] and model.predict(rows, verbose=0)["found"].shape == (14, 2)
    assert model.output_names == ["found"]


def test_the_last_rows_are_split_off_and_not_weighed():
    sizes = {"batch_size": 2, "steps": None}
    first = adapter(X, Y % 2, None, {0: 2.0}, spec=ModelSpec(), split=0.3, validating=sizes)
    ((_, _, weights),), ((x, _), (rest, _)) = data_of(first), data_of(first.held_back)
    assert len(weights) == 7 and weights[0] == 2.0
    np.testing.assert_array_equal(np.concatenate([x, rest]), X[7:])


def test_predictions_of_several_shapes_cannot_be_joined():
    double = type("Double", (Model,), {"call": lambda self, x: x * 2.0})
    batches = [np.ones((2, 3), "float32"), np.ones((2, 3), "float32"), np.ones((2, 4), "float32")]
    message = r"batch 0 has outputs of shapes \[\(2, 3\)\], batch 2 has \[\(2, 4\)\]"
    with pytest.raises(ValueError, match=message):
        double().predict(iter(batches), verbose=0)
    assert double().predict(iter(batches[:2]), verbose=0).shape == (4, 3)
