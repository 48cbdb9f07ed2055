"""Own callbacks: every method, logs, early stopping at minimum loss, a learning rate schedule."""

import keras
import numpy as np

calls = []


class CustomCallback(keras.callbacks.Callback):
    def on_train_begin(self, logs=None):
        calls.append("train_begin")

    def on_epoch_end(self, epoch, logs=None):
        calls.append(("epoch_end", epoch, sorted(logs)))

    def on_test_batch_end(self, batch, logs=None):
        calls.append(("test_batch", batch))

    def on_predict_end(self, logs=None):
        calls.append("predict_end")


class EarlyStoppingAtMinLoss(keras.callbacks.Callback):
    def __init__(self, patience=0):
        super().__init__()
        self.patience = patience

    def on_train_begin(self, logs=None):
        self.wait, self.stopped_epoch, self.best = 0, 0, np.inf

    def on_epoch_end(self, epoch, logs=None):
        if np.less(logs.get("loss"), self.best):
            self.best, self.wait, self.best_weights = logs["loss"], 0, self.model.get_weights()
        else:
            self.wait += 1
            if self.wait >= self.patience:
                self.stopped_epoch = epoch
                self.model.stop_training = True
                self.model.set_weights(self.best_weights)


class CustomLearningRateScheduler(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        rate = self.model.optimizer.learning_rate
        self.model.optimizer.learning_rate = keras.ops.convert_to_numpy(rate) * 0.5


model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(1)])
model.compile(
    optimizer=keras.optimizers.RMSprop(learning_rate=0.1), loss="mean_squared_error", metrics=["mean_absolute_error"]
)
x, y = np.random.random((64, 8)), np.random.random((64, 1))
model.fit(
    x,
    y,
    batch_size=32,
    epochs=3,
    verbose=0,
    callbacks=[CustomCallback(), EarlyStoppingAtMinLoss(), CustomLearningRateScheduler()],
)
model.evaluate(x, y, verbose=0, callbacks=[CustomCallback()])
model.predict(x, verbose=0, callbacks=[CustomCallback()])
assert calls[0] == "train_begin" and calls[-1] == "predict_end"
assert ("epoch_end", 0, ["loss", "mean_absolute_error"]) in calls and ("test_batch", 1) in calls
assert float(keras.ops.convert_to_numpy(model.optimizer.learning_rate)) <= 0.05
