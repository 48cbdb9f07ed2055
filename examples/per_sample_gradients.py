"""
Which labels are wrong? Gradients of single samples
===================================================

A wrong label gives its sample a large gradient while the network learns. So look first at the samples with the largest gradients.
This needs the gradient of each sample, not their mean: ``autodiff.vmap(autodiff.grad(loss))``. Influence functions and
differentially private training use it too.

The data are the 8x8 digits that come with nbkeras; this script gives 75 of 1,501 a wrong label. Of the 75 samples with the
largest gradients **91% are wrong** (93% of those with the largest losses), and the first 91 hold all wrong ones. The gradients of
all samples take 8 ms together, and 2.1 s in a loop.
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
x, truth = x.reshape(-1, 64).astype("float32") / 16, truth.astype("int32")
wrong = np.zeros(len(x), bool)
wrong[rng.choice(len(x), WRONG, replace=False)] = True
labels = np.where(wrong, (truth + rng.integers(1, 10, len(x))) % 10, truth).astype("int32")
print(f"{WRONG} of {len(x)} labels are wrong")

# %%
# Gradients of single samples
# ---------------------------
# ``loss_of_one`` is the loss of one sample with given weights. ``grad`` computes its gradient by the weights, and ``vmap`` does
# so for all samples at once: ``None`` means that all samples share the weights.

model = keras.Sequential([keras.Input((64,)), layers.Dense(WIDTH, activation="relu"), layers.Dense(10)])
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
model.compile(keras.optimizers.Adam(0.003), loss, metrics=["accuracy"])


def loss_of_one(weights, image, label):
    logits, _ = model.stateless_call(weights, [], ops.expand_dims(image, 0))
    return ops.sparse_categorical_crossentropy(label, logits[0], from_logits=True)


gradient_of_one = autodiff.grad(loss_of_one)
gradients_of_all = autodiff.vmap(gradient_of_one, in_axes=(None, 0, 0))

# %%
# A loop gives the same gradients, but more slowly.

weights = model.trainable_weights
together = gradients_of_all(weights, x, labels)
one_by_one = [gradient_of_one(weights, image, label) for image, label in zip(x, labels, strict=True)]
for i, weight in enumerate(weights):
    difference = np.abs(together[i] - np.stack([gradient[i] for gradient in one_by_one])).max()
    print(f"{weight.path} {weight.shape}: gradients {together[i].shape}, largest difference {difference:.1e}")

at_once = timeit(lambda: gradients_of_all(weights, x, labels), number=3) / 3
a_sample = timeit(lambda: gradient_of_one(weights, x[0], labels[0]), number=30) / 30
print(f"all {len(x)} at once: {1000 * at_once:.1f} ms; in a loop: {1000 * a_sample * len(x):.0f} ms")

# %%
# Training
# --------
# The network learns the given labels. After each epoch each sample's loss and the norm of its gradient are summed.


class Sums(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.losses, self.norms = np.zeros((2, len(x)))
        self.both_of_all = autodiff.vmap(autodiff.value_and_grad(loss_of_one), in_axes=(None, 0, 0))

    def on_epoch_end(self, epoch, logs=None):
        losses, gradients = self.both_of_all(weights, x, labels)
        squares = sum(np.square(gradient).reshape(len(x), -1).sum(axis=1) for gradient in gradients)
        self.losses += losses
        self.norms += np.sqrt(squares)


sums = Sums()
history = model.fit(x, labels, batch_size=32, epochs=EPOCHS, callbacks=[sums], verbose=2).history

# %%
# The suspects
# ------------

for name, values in {"losses": sums.losses, "gradients": sums.norms}.items():
    suspects = np.argsort(-values)
    share = wrong[suspects[:WRONG]].mean()
    print(f"of the {WRONG} samples with the largest {name}, {share:.0%} have a wrong label")
found = np.cumsum(wrong[suspects]) / WRONG
print(f"all wrong labels are among the first {np.argmax(found == 1) + 1} samples")

figure, axes = plt.subplots(2, 8, figsize=(10, 3.2))
for axis, i in zip(axes.flat, suspects, strict=False):
    axis.imshow(x[i].reshape(8, 8), cmap="gray_r")
    axis.set_title(f"label {labels[i]}, is {truth[i]}", fontsize=7, color="C3" if wrong[i] else "black")
    axis.axis("off")
plt.figure(figsize=(5, 3.5))
plt.hist([sums.norms[~wrong], sums.norms[wrong]], bins=30, density=True, label=["right labels", "wrong labels"])
plt.xlabel("sum of the norms of a sample's gradients")
plt.legend()
plt.show()
