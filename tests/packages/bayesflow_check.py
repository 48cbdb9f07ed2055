"""BayesFlow on nbkeras: the example of its README with less data, other networks, files, and the numbers of real Keras."""

import os
import pathlib

os.environ.setdefault("MPLBACKEND", "Agg")

import bayesflow as bf
import keras
import numpy as np
import pytest

REFERENCE = pathlib.Path(__file__).parent / "data" / "bayesflow.npz"


def made(layer, *shapes):
    """A layer that is built, with weights that follow from their places."""
    layer.build(*shapes)
    shapes = [tuple(weight.shape) for weight in layer.weights]
    values = [np.sin(np.arange(np.prod(shape)) + place + 1).reshape(shape) for place, shape in enumerate(shapes)]
    layer.set_weights([0.3 * value.astype("float32") for value in values])
    return layer


def results():
    """Outputs of networks of BayesFlow; scripts/make_bayesflow_reference.py stores those of real Keras."""
    x = keras.ops.convert_to_tensor(np.sin(np.arange(8.0)).reshape(4, 2).astype("float32"))
    conditions = keras.ops.convert_to_tensor(np.cos(np.arange(12.0)).reshape(4, 3).astype("float32"))
    sets = keras.ops.convert_to_tensor(np.sin(np.arange(72.0)).reshape(4, 6, 3).astype("float32"))
    found = {}
    for name, transform in (("affine", "affine"), ("spline", "spline")):
        flow = made(bf.networks.CouplingFlow(depth=2, transform=transform), (4, 2), (4, 3))
        z, density = flow(x, conditions=conditions, density=True)
        found[f"{name} z"], found[f"{name} density"] = z, density
        found[f"{name} inverse"] = flow(z, conditions=conditions, inverse=True)
    matching = made(bf.networks.FlowMatching(), (4, 2), (4, 3))
    found["flow matching"] = matching.velocity(x, time=0.3, conditions=conditions, training=False)
    for method in ("euler", "rk45"):
        ended = matching(x, conditions=conditions, inverse=True, method=method, steps=10)
        found[f"flow matching by {method}"] = ended
    for kind in (bf.networks.DeepSet, bf.networks.SetTransformer, bf.networks.TimeSeriesNetwork):
        network = made(kind(summary_dim=4), (4, 6, 3))
        found[kind.__name__] = network(sets, training=False)
    return {name: keras.ops.convert_to_numpy(value) for name, value in found.items()}


def test_the_numbers_are_those_of_keras():
    with np.load(REFERENCE) as expected:
        found = results()
        assert found.keys() == set(expected.files)
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=2e-4, atol=2e-5, err_msg=name)


def test_the_example_of_the_readme(tmp_path):
    keras.utils.set_random_seed(1)
    workflow = bf.BasicWorkflow(
        inference_network=bf.networks.FlowMatching(),
        inference_variables=["parameters"],
        inference_conditions=["observables"],
        simulator=bf.simulators.SIR(),
    )
    losses = workflow.fit_online(epochs=3, batch_size=32, num_batches_per_epoch=30, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    figures = workflow.plot_default_diagnostics(test_data=10, num_samples=10)
    assert {"losses", "recovery", "calibration_ecdf", "z_score_contraction"} <= set(figures)


def prior():
    return {"mu": np.random.normal(0, 1, size=2).astype("float32")}


def likelihood(mu):
    return {"x": np.random.normal(mu, 1, size=(12, 2)).astype("float32")}


@pytest.mark.parametrize("network", ["CouplingFlow", "FlowMatching", "DiffusionModel"])
def test_a_workflow_with_a_summary_network_and_its_file(network, tmp_path):
    keras.utils.set_random_seed(1)
    simulator = bf.make_simulator([prior, likelihood])
    workflow = bf.BasicWorkflow(
        inference_network=getattr(bf.networks, network)(),
        summary_network=bf.networks.DeepSet(summary_dim=4, base_distribution="normal"),
        inference_variables=["mu"],
        summary_variables=["x"],
        simulator=simulator,
    )
    history = workflow.fit_online(
        epochs=2, batch_size=32, num_batches_per_epoch=10, verbose=0, validation_data=20
    ).history
    assert {"loss", "loss/inference_loss", "loss/summary_loss", "val_loss/summary_loss"} <= set(history)
    data = simulator.sample(3)
    assert workflow.sample(conditions={"x": data["x"]}, num_samples=5)["mu"].shape == (3, 5, 2)
    assert np.isfinite(workflow.log_prob(data=data)).all()
    workflow.approximator.save(tmp_path / "approximator.keras")
    again = keras.saving.load_model(tmp_path / "approximator.keras")
    np.testing.assert_array_equal(again.summarize({"x": data["x"]}), workflow.approximator.summarize({"x": data["x"]}))
