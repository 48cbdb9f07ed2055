"""Model internals: a class activation map from a model of keras.applications (without the gradient of a backend)."""

import keras
import numpy as np

model = keras.applications.Xception(weights=None, input_shape=(71, 71, 3), classes=10)
image = np.random.random((1, 71, 71, 3)).astype("float32") * 255
batch = keras.applications.xception.preprocess_input(image.copy())
assert batch.min() >= -1 and batch.max() <= 1
features = keras.Model(model.inputs, [model.get_layer("block14_sepconv2_act").output, model.output])
activations, predictions = features.predict(batch, verbose=0)
weights = model.get_layer("predictions").get_weights()[0]
heatmap = activations[0] @ weights[:, int(np.argmax(predictions[0]))]
assert heatmap.shape == activations.shape[1:3] and np.isclose(predictions.sum(), 1, atol=1e-4)
