"""
Which labels are wrong? Gradients of single samples
===================================================

A label that does not fit pulls at the weights: while a network learns, its loss has a large gradient at mislabelled samples. So
the samples with the greatest norms of the gradient are those to look at. This needs a gradient for each sample, and not their mean:
``autodiff.vmap(autodiff.grad(loss))``.

The data are the 8x8 digits that come with nbkeras; this script gives some of them a wrong label.
"""

from timeit import timeit

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import autodiff, layers, ops
from nbkeras.datasets import digits

EPOCHS = 15
WRONG = 75
WIDTH = 64

keras.utils.set_random_seed(0)
rng = np.random.default_rng(0)
(x, truth), _ = digits.load_data()
x, truth = x.reshape(len(x), 64).astype("float32") / 16, truth.astype("int32")
wrong = np.zeros(len(x), bool)
wrong[rng.choice(len(x), WRONG, replace=False)] = True
labels = np.where(wrong, (truth + rng.integers(1, 10, len(x))) % 10, truth).astype("int32")
print(f"{WRONG} of {len(x)} labels are wrong")

# %%
# The network learns the labels as they are.

model = keras.Sequential([keras.Input((64,)), layers.Dense(WIDTH, activation="relu"), layers.Dense(10)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.003), loss, metrics=["accuracy"])

# %%
# Gradients of single samples
# ---------------------------
# ``loss_of_one`` is the loss of one sample with the weights that it is given; ``grad`` is its gradient by the weights, ``vmap`` the same
# for all samples at once.


def loss_of_one(weights, x, label):
    logits, _ = model.stateless_call(weights, [], x[None])
    return ops.sparse_categorical_crossentropy(label, logits[0], from_logits=True)


of_each = autodiff.vmap(autodiff.grad(loss_of_one), in_axes=(None, 0, 0))


def norms_of_gradients(x, labels):
    gradients = of_each(model.trainable_variables, x, labels)
    return np.sqrt(sum(np.square(gradient).reshape(len(x), -1).sum(axis=1) for gradient in gradients))


class Norms(keras.callbacks.Callback):
    """Adds the norm of each sample's gradient up, over the epochs."""

    def __init__(self):
        super().__init__()
        self.totals = np.zeros(len(x))

    def on_epoch_end(self, epoch, logs=None):
        self.totals += norms_of_gradients(x, labels)


norms = Norms()
history = model.fit(x, labels, batch_size=32, epochs=EPOCHS, callbacks=[norms], verbose=2).history
