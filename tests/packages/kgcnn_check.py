"""The network of kgcnn's README, with weights by a formula: its outputs are those of Keras with TensorFlow, and it trains."""

import os

import keras
import numpy as np

DATA = os.path.join(os.path.dirname(__file__), "data", "kgcnn.npz")


def network():
    from kgcnn.layers.aggr import AggregateLocalEdges
    from kgcnn.layers.casting import CastBatchedIndicesToDisjoint
    from kgcnn.layers.gather import GatherNodes
    from kgcnn.layers.pooling import PoolingNodes

    ns = keras.layers.Input(shape=(None, 64), dtype="float32", name="node_attributes")
    e_idx = keras.layers.Input(shape=(None, 2), dtype="int64", name="edge_indices")
    total_n = keras.layers.Input(shape=(), dtype="int64", name="total_nodes")
    total_e = keras.layers.Input(shape=(), dtype="int64", name="total_edges")
    n, idx, batch_id, _, _, _, _, _ = CastBatchedIndicesToDisjoint(uses_mask=False)([ns, e_idx, total_n, total_e])
    n_in_out = GatherNodes()([n, idx])
    node_messages = keras.layers.Dense(64, activation="relu")(n_in_out)
    node_updates = AggregateLocalEdges()([n, node_messages, idx])
    n_embedding = keras.layers.Dense(1)(keras.layers.Concatenate()([n, node_updates]))
    g_embedding = PoolingNodes()([total_n, n_embedding, batch_id])
    return keras.models.Model(inputs=[ns, e_idx, total_n, total_e], outputs=g_embedding)


def graphs():
    rng = np.random.default_rng(0)
    nodes = rng.normal(size=(4, 5, 64)).astype("float32")
    total_n, total_e = np.array([5, 3, 4, 2]), np.array([7, 4, 6, 2])
    edges = np.stack([rng.integers(0, n, size=(7, 2)) for n in total_n])
    return [nodes, edges, total_n, total_e]


def with_weights(model):
    model.set_weights([np.sin(np.arange(w.size) + w.size).reshape(w.shape) / 8 for w in model.get_weights()])
    return model


def test_outputs_equal_those_of_keras():
    found = with_weights(network()).predict(graphs(), verbose=0)
    np.testing.assert_allclose(found, np.load(DATA)["outputs"], rtol=1e-5, atol=1e-6)


def test_it_trains():
    model = with_weights(network())
    model.compile(keras.optimizers.Adam(0.01), "mse")
    losses = model.fit(graphs(), np.arange(4.0)[:, None], epochs=30, batch_size=4, verbose=0).history["loss"]
    assert losses[-1] < 0.2 * losses[0]


def test_graphs_of_the_readme():
    from kgcnn.data import MemoryGraphList
    from kgcnn.graph import GraphDict
    from kgcnn.graph.preprocessor import SortEdgeIndices

    graph = GraphDict({"edge_indices": [[1, 0], [0, 1]], "node_label": [[0], [1]]})
    graph.set("graph_labels", [0])
    graph.set("edge_attributes", [[1.0], [2.0]])
    SortEdgeIndices(edge_indices="edge_indices", edge_attributes="^edge_(?!indices$).*", in_place=True)(graph)
    assert np.asarray(graph["edge_indices"]).tolist() == [[0, 1], [1, 0]]
    graphs = MemoryGraphList([{"edge_indices": [[0, 1], [1, 0]]}, {"edge_indices": [[0, 0]]}, {}])
    graphs.clean(["edge_indices"])
    assert len(graphs) == 2
