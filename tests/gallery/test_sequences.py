"""The examples of sequences, tables, agents, derivatives and own kernels run with small constants, and learn."""

import numpy as np
import pytest
from running import falls, learns, run

pytestmark = pytest.mark.big


EXAMPLES = {
    "char_rnn.py": (
        dict(EPOCHS=2, CHARACTERS=20_000, STREAMS=4, STEPS=16, UNITS=8, SAMPLE=5),
        lambda found: falls(found.train_bits) and len(found.sample) == 9,
    ),
    "bilstm.py": (dict(EPOCHS=2, VOCABULARY=200, BLOCK=40), lambda found: learns(found) and found.predicted.max() < 7),
    "text_transformer.py": (dict(EPOCHS=2, SENTENCES=400, WIDTH=8, HEADS=2), learns),
    "mini_gpt.py": (
        dict(EPOCHS=2, STEPS_PER_EPOCH=10, BATCH=8, CONTEXT=16, WIDTH=16, HEADS=2, BLOCKS=1, SAMPLE=20),
        lambda found: learns(found) and len(found.sample) == 24,
    ),
    "seq2seq_attention.py": (
        dict(EPOCHS=2, DATES=500, UNITS=8),
        lambda found: learns(found) and np.allclose(found.scores.sum(axis=-1), 1, atol=1e-5),
    ),
    "forecast.py": (dict(EPOCHS=2, DAYS=40), learns),
    "keyword_spotting.py": (
        dict(EPOCHS=2, SOUNDS=200),
        lambda found: learns(found) and found.x.shape == (200, 63, 96, 1),
    ),
    "anomaly_autoencoder.py": (
        dict(EPOCHS=3, BEATS=200),
        lambda found: learns(found) and found.copies.shape == (1200, 96),
    ),
    "tabular.py": (dict(EPOCHS=3, ROWS=600), lambda found: learns(found) and found.aucs["true probabilities"] > 0.7),
    "dqn.py": (
        dict(STEPS=300, LIMIT=50, TESTS=4),
        lambda found: len(found.finished) > 50 and found.ended.sum() > 50 and 5 < found.trained <= 50,
    ),
    "actor_critic.py": (dict(UPDATES=30, LIMIT=100), lambda found: found.curve[-1] > found.untrained > 10),
    "pinn.py": (
        dict(STEPS=300, POINTS=32, WIDTH=8),
        lambda found: falls(found.history @ np.array([1, found.EDGE])) and found.error < 1,
    ),
    "maml.py": (dict(STEPS=1000, TASKS=5, TESTS=20), lambda found: found.curves["MAML"][-1] < found.curves["MAML"][0]),
    "per_sample_gradients.py": (
        dict(EPOCHS=4, WRONG=60, WIDTH=16),
        lambda found: found.share > 0.2 and found.difference < 1e-5,
    ),
    "optuna_search.py": (dict(EPOCHS=2, TRIALS=3), lambda found: len(found.accuracies) == 3 and found.accuracy > 0.3),
    "custom_kernel.py": (
        dict(EPOCHS=2, SAMPLES=256, CENTERS=8, BATCH=32, REPEATS=3),
        lambda found: np.allclose(found.results[0][1].numpy(), found.results[1][1].numpy(), rtol=1e-4, atol=1e-5),
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name):
    constants, learned = EXAMPLES[name]
    assert learned(run(name, **constants))
