"""
A residual network
==================

In a residual network each block adds something to its input instead of replacing it. Gradients pass through the sums
unchanged, so that very deep networks learn as easily as shallow ones.

To show this, the script trains two networks with 41 convolutions, with and without the sums, on the 8x8 digits that
come with nbkeras. After the same number of epochs the residual network has a test accuracy of 94.6 %. The plain one
has learned nothing: 10.1 %, which is chance. With 17 convolutions (``BLOCKS = 8`` and 12 epochs) the plain one still
reaches 98.0 %. The whole program takes about 21 seconds on two cores.
"""

import matplotlib.pyplot as plt

import nbkeras as keras
from nbkeras import layers
from nbkeras.datasets import digits

EPOCHS = 10
BLOCKS = 20
FILTERS = 16

(x_train, y_train), (x_test, y_test) = digits.load_data()
x_train = x_train[..., None].astype("float32") / 16
x_test = x_test[..., None].astype("float32") / 16

# %%
# The model
# ---------
#
# A block has two convolutions. There is no batch normalization here, because it would help both networks and hide the effect of
# the sums. The second convolution of a residual block starts with zeros, so that the network first passes its input through
# (`Fixup <https://arxiv.org/abs/1901.09321>`_).


def residual_block(x):
    y = layers.Conv2D(FILTERS, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    y = layers.Conv2D(FILTERS, 3, padding="same", kernel_initializer="zeros")(y)
    return layers.Activation("relu")(layers.Add()([x, y]))


def plain_block(x):
    y = layers.Conv2D(FILTERS, 3, padding="same", activation="relu", kernel_initializer="he_normal")(x)
    return layers.Conv2D(FILTERS, 3, padding="same", activation="relu", kernel_initializer="he_normal")(y)


def make_model(block):
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(FILTERS, 3, padding="same", activation="relu")(inputs)
    for _ in range(BLOCKS // 2):
        x = block(x)
    x = layers.MaxPooling2D()(x)
    for _ in range(BLOCKS - BLOCKS // 2):
        x = block(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


# %%
# Training
# --------

histories = {}
for name, block in {"residual": residual_block, "plain": plain_block}.items():
    keras.utils.set_random_seed(0)
    model = make_model(block)
    model.compile(optimizer=keras.optimizers.Adam(0.002), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    print(f"{name}: {len(model.layers)} layers, {model.count_params():,} parameters")
    histories[name] = model.fit(
        x_train, y_train, batch_size=64, epochs=EPOCHS, validation_data=(x_test, y_test), verbose=2
    ).history

# %%
# Both have the same number of parameters. The curves show the test images.

plt.figure(figsize=(5, 3.5))
for name, history in histories.items():
    plt.plot(history["val_accuracy"], label=name)
plt.xlabel("epoch")
plt.ylabel("test accuracy")
plt.legend()
plt.show()
