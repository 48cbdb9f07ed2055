"""
Depthwise separable convolutions: a small MobileNet
===================================================

A convolution mixes neighbouring pixels and channels at once. MobileNet does it in two steps, first the pixels of each
channel (depthwise), then the channels of each pixel (a 1x1 convolution). This needs a fraction of the weights.

The script trains the same network with both kinds of convolutions on the 8x8 digits that come with nbkeras, enlarged
to 16x16 pixels. The separable network has 19,786 parameters, the usual one 136,282. Both reach a test accuracy of 99.7 %:
one mistake. The whole program takes about 10 seconds on two cores.
"""

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers
from nbkeras.datasets import digits

EPOCHS = 15
WIDTH = 16

(x_train, y_train), (x_test, y_test) = digits.load_data()
x_train, x_test = (np.kron(images, np.ones((2, 2)))[..., None].astype("float32") / 16 for images in (x_train, x_test))

# %%
# The model
# ---------
#
# The layers are those of the first `MobileNet <https://arxiv.org/abs/1704.04861>`_, only fewer and narrower.
# ``SeparableConv2D`` would do both steps in one layer; here they are separate, because MobileNet normalizes in between.


def normalized(x):
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU(6.0)(x)


def separable_block(x, filters, strides):
    x = layers.DepthwiseConv2D(3, strides=strides, padding="same", use_bias=False)(x)
    x = normalized(x)
    x = layers.Conv2D(filters, 1, use_bias=False)(x)
    return normalized(x)


def usual_block(x, filters, strides):
    x = layers.Conv2D(filters, 3, strides=strides, padding="same", use_bias=False)(x)
    return normalized(x)


def make_model(block):
    inputs = keras.Input((16, 16, 1))
    x = layers.Conv2D(WIDTH, 3, padding="same", use_bias=False)(inputs)
    x = normalized(x)
    for filters, strides in [(2, 1), (4, 2), (4, 1), (8, 2)]:
        x = block(x, filters * WIDTH, strides)
    x = layers.GlobalAveragePooling2D()(x)
    x = layers.Dropout(0.2)(x)
    return keras.Model(inputs, layers.Dense(10, activation="softmax")(x))


# %%
# Training
# --------

histories, parameters = {}, {}
for name, block in {"separable": separable_block, "usual": usual_block}.items():
    keras.utils.set_random_seed(0)
    model = make_model(block)
    model.compile(optimizer=keras.optimizers.Adam(0.003), loss="sparse_categorical_crossentropy", metrics=["accuracy"])
    parameters[name] = model.count_params()
    histories[name] = model.fit(
        x_train, y_train, batch_size=64, epochs=EPOCHS, validation_data=(x_test, y_test), verbose=2
    ).history
    print(f"{name}: {parameters[name]:,} parameters, test accuracy {histories[name]['val_accuracy'][-1]:.3f}")

# %%
# The results
# -----------

figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.5))
for name, history in histories.items():
    left.plot(history["val_accuracy"], label=name)
left.set(xlabel="epoch", ylabel="test accuracy")
left.legend()
bars = right.barh(list(parameters), list(parameters.values()), color=["C0", "C1"])
right.bar_label(bars, fmt="{:,.0f}", label_type="center", color="white")
right.set(xlabel="parameters", xticks=[])
plt.tight_layout()
plt.show()
