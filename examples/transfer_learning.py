"""
Transfer learning with a network of keras.applications
======================================================

``keras.applications`` has the well-known networks for images. With ``weights="imagenet"`` they start from Keras's own weights.
This script needs no network connection: it trains a small MobileNet on the digits 0 to 4, stores its weights in a file, and
uses them to learn 5 to 9 from ten images of each. The steps are the same with ImageNet's weights.

A new end on the old features reaches a test accuracy of 55 %, fine-tuning all of it 64 %, and the same network from nothing
32 %. The whole program takes about 8 seconds of processor time.
"""

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers
from nbkeras.datasets import digits

EPOCHS = 50
NEW_EPOCHS = 100
FILE = "mobilenet.weights.h5"

keras.utils.set_random_seed(0)


def prepared(images):
    """Images of 8x8 with values up to 16 as images of 32x32 with three channels and values from -1 to 1."""
    larger = np.kron(images, np.ones((4, 4)))[..., None] * np.ones(3) * 255 / 16
    return keras.applications.mobilenet.preprocess_input(larger.astype("float32"))


(x_train, y_train), (x_test, y_test) = digits.load_data()
x_train, x_test = prepared(x_train), prepared(x_test)


def network(weights=None):
    mobilenet = keras.applications.MobileNet(alpha=0.5, weights=weights, include_top=False, input_shape=(32, 32, 3))
    # such small images need only the first five of the thirteen blocks
    features = keras.Model(mobilenet.input, mobilenet.get_layer("conv_pw_5_relu").output)
    end = [layers.GlobalAveragePooling2D(), layers.Dropout(0.2), layers.Dense(5, activation="softmax")]
    return mobilenet, keras.Sequential([features, *end])


def trained(model, images, labels, rate, epochs):
    model.compile(keras.optimizers.Adam(rate), "sparse_categorical_crossentropy", metrics=["accuracy"])
    return model.fit(images, labels, batch_size=min(32, len(images) // 5), epochs=epochs, verbose=0).history["loss"]


# %%
# The first task
# --------------

mobilenet, model = network()
old = y_train < 5
losses = trained(model, x_train[old], y_train[old], 0.001, EPOCHS)
mobilenet.save_weights(FILE)
accuracy = model.evaluate(x_test[y_test < 5], y_test[y_test < 5], verbose=0)[1]
print(f"digits 0 to 4: test accuracy {accuracy:.3f}")

# %%
# The second task
# ---------------
#
# First only the new end is trained, on frozen features, and then everything, slowly. The last network learns from nothing.

few = np.concatenate([np.flatnonzero(y_train == digit)[:10] for digit in range(5, 10)])
new = y_test > 4
task, test = (x_train[few], y_train[few] - 5), (x_test[new], y_test[new] - 5)
accuracies = {}

mobilenet, model = network(FILE)
mobilenet.trainable = False
trained(model, *task, 0.01, NEW_EPOCHS)
accuracies["new end"] = model.evaluate(*test, verbose=0)[1]

mobilenet.trainable = True
for layer in mobilenet.layers:  # their statistics stay those of the first task: ten images are too few for new ones
    layer.trainable = not isinstance(layer, layers.BatchNormalization)
trained(model, *task, 0.0003, NEW_EPOCHS)
accuracies["fine-tuned"] = model.evaluate(*test, verbose=0)[1]

_, model = network()
trained(model, *task, 0.001, NEW_EPOCHS)
accuracies["from nothing"] = model.evaluate(*test, verbose=0)[1]
for name, accuracy in accuracies.items():
    print(f"digits 5 to 9, {name}: test accuracy {accuracy:.3f}")

# %%
# The results
# -----------

bars = plt.barh(list(accuracies), list(accuracies.values()), color=["C0", "C1", "C7"])
plt.bar_label(bars, fmt="{:.3f}", label_type="center", color="white")
plt.xlabel("test accuracy")
plt.tight_layout()
plt.show()
