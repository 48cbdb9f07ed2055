"""The examples of images run with small constants, and learn."""

import numpy as np
import pytest
from running import falls, learns, run, write_mnist

pytestmark = pytest.mark.big


EXAMPLES = {
    "digits_mlp.py": (dict(EPOCHS=3), lambda found: learns(found) and found.accuracy > 0.5),
    "digits_cnn.py": (dict(EPOCHS=3), lambda found: learns(found) and found.confusion.sum() == 296),
    "mnist_cnn.py": (dict(EPOCHS=2), lambda found: learns(found) and found.filters.shape == (3, 3, 1, 32)),
    "autoencoder.py": (dict(EPOCHS=3), lambda found: learns(found) and found.cleaned_error < found.noisy_error),
    "vae.py": (
        dict(EPOCHS=3),
        lambda found: falls(found.history["val_loss"]) and found.samples.shape == (12, 12, 8, 8),
    ),
    "dcgan.py": (
        dict(EPOCHS=1, LATENT=4),
        lambda found: np.isfinite(found.history["g_loss"][0]) and found.samples.shape == (1000, 8, 8, 1),
    ),
    "wgan_gp.py": (
        dict(EPOCHS=1, LATENT=4, CRITIC_STEPS=1),
        lambda found: np.all(np.isfinite(found.history)) and found.samples.shape == (1000, 8, 8, 1),
    ),
    "unet.py": (dict(EPOCHS=2, IMAGES=50), lambda found: learns(found) and found.predicted.shape == (6, 32, 32)),
    "resnet.py": (dict(EPOCHS=2, BLOCKS=2, FILTERS=8), learns),
    "transfer_learning.py": (
        dict(EPOCHS=6, NEW_EPOCHS=4),
        lambda found: falls(found.losses) and len(found.accuracies) == 3,
    ),
    "mobilenet.py": (
        dict(EPOCHS=2, WIDTH=4),
        lambda found: learns(found) and found.parameters["separable"] < found.parameters["usual"],
    ),
    "siamese.py": (dict(EPOCHS=2, PAIRS=500), lambda found: learns(found) and found.codes.shape == (296, 32)),
    "grad_cam.py": (
        dict(EPOCHS=2, IMAGES=100),
        lambda found: learns(found) and found.heat.shape == (200, 32, 32) and found.heat.max() > 0,
    ),
    "knowledge_distillation.py": (
        dict(EPOCHS=3, SEEDS=1),
        lambda found: all(curve[0][-1] > curve[0][0] for curve in found.curves.values()),
    ),
    "mean_teacher.py": (dict(STEPS=100), lambda found: learns(found) and found.history["val_accuracy"][-1] > 0.2),
    "image_folder.py": (
        dict(EPOCHS=2, SIZE=16),
        lambda found: learns(found) and found.train.class_names == ["bean", "clover", "star"],
    ),
}


@pytest.mark.parametrize("name", EXAMPLES)
def test_example(name, tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))  # there is no MNIST
    constants, learned = EXAMPLES[name]
    assert learned(run(name, **constants))


def test_mnist_with_its_file(tmp_path, monkeypatch):
    write_mnist(tmp_path, monkeypatch)
    found = run("mnist_cnn.py", EPOCHS=2)
    assert found.x_train.shape == (400, 28, 28, 1) and found.x_train.max() == 1
    assert learns(found)
