"""
Forecast a time series
======================

From the last 48 hours of a series, predict the next 12. Windows come from ``timeseries_dataset_from_array``; an LSTM and a causal
convolution are compared with *persistence* (the last value) and with the value one day before.

The script makes the series: 200 days of hourly temperatures with a daily cycle, weather that comes and goes over some days, and
noise. Mean absolute errors on the last 40 days: **LSTM 1.50, convolution 1.62**, persistence 5.51, one day before 2.07
degrees. It takes 6 s on two cores.
"""

import matplotlib.pyplot as plt
import numpy as np

import nbkeras as keras
from nbkeras import layers

EPOCHS = 10
DAYS = 200
PAST = 48
FUTURE = 12

keras.utils.set_random_seed(0)

# %%
# The series
# ----------
# The weather is an autoregressive process: each hour keeps 98% of the previous hour's deviation. It also changes the size of the
# daily cycle: warm days are clear days.

rng = np.random.default_rng(0)
hours = np.arange(24 * DAYS)
weather = np.zeros(len(hours))
for hour in hours[1:]:
    weather[hour] = 0.98 * weather[hour - 1] + rng.normal(scale=0.6)
cycle = (5 + weather) * np.sin(2 * np.pi * (hours - 9) / 24)
series = 15 + weather + cycle + rng.normal(scale=0.3, size=len(hours))

plt.figure(figsize=(9, 3))
plt.plot(hours[: 24 * 14] / 24, series[: 24 * 14])
plt.xlabel("day")
plt.ylabel("temperature")
plt.tight_layout()
plt.show()

# %%
# Windows
# -------
# The training part gives the mean and the scale. Sample *i* holds hours *i* to *i* + 47, its target the next 12 hours.

cut = len(series) * 4 // 5
mean, scale = series[:cut].mean(), series[:cut].std()


def windows(series, shuffle):
    values = ((series - mean) / scale).astype("float32")
    targets = np.lib.stride_tricks.sliding_window_view(values[PAST:], FUTURE)
    return keras.utils.timeseries_dataset_from_array(
        values[: len(targets) + PAST - 1, None], targets, sequence_length=PAST, batch_size=64, shuffle=shuffle
    )


train, test = windows(series[:cut], shuffle=True), windows(series[cut:], shuffle=False)

# %%
# Two models
# ----------

inputs = keras.Input((PAST, 1))
lstm = keras.Model(inputs, layers.Dense(FUTURE)(layers.LSTM(32)(inputs)), name="LSTM")

# The dilations 1, 2, 4, 8 and 16 let the last step see the whole window.
x = inputs
for dilation in 1, 2, 4, 8, 16:
    x = layers.Conv1D(24, 3, dilation_rate=dilation, padding="causal", activation="relu")(x)
convolution = keras.Model(inputs, layers.Dense(FUTURE)(x[:, -1]), name="convolution")

histories = {}
for model in lstm, convolution:
    model.compile(keras.optimizers.Adam(0.003), "mse")
    histories[model.name] = model.fit(train, epochs=EPOCHS, validation_data=test, verbose=0).history
    print(f"{model.name}: {model.count_params()} parameters, mse {histories[model.name]['val_loss'][-1]:.4f}")

# %%
# Results
# -------
# Errors in degrees, for each hour of the forecast.

past = np.concatenate([batch[0] for batch in test])[:, :, 0]
future = np.concatenate([batch[1] for batch in test])
forecasts = {
    "persistence": np.repeat(past[:, -1:], FUTURE, axis=1),
    "one day before": past[:, PAST - 24 : PAST - 24 + FUTURE],
    "LSTM": lstm.predict(test, verbose=0),
    "convolution": convolution.predict(test, verbose=0),
}
errors = {name: scale * np.abs(forecast - future).mean(axis=0) for name, forecast in forecasts.items()}
for name, error in errors.items():
    print(f"{name}: mean absolute error {error.mean():.2f} degrees")
    plt.plot(range(1, FUTURE + 1), error, marker=".", label=name)
plt.xlabel("hours ahead")
plt.ylabel("mean absolute error (degrees)")
plt.ylim(0)
plt.legend()
plt.show()

# %%
# Three forecasts from the test days.

# sphinx_gallery_thumbnail_number = 3
figure, axes = plt.subplots(3, 1, figsize=(7, 7), sharex=True)
for axis, sample in zip(axes, np.linspace(50, len(past) - 1, 3, dtype=int), strict=True):
    axis.plot(range(-PAST + 1, 1), mean + scale * past[sample], color="gray", label="past")
    axis.plot(range(1, FUTURE + 1), mean + scale * future[sample], color="black", label="future")
    for name in "persistence", "LSTM", "convolution":
        axis.plot(range(1, FUTURE + 1), mean + scale * forecasts[name][sample], "--", label=name)
    axis.set_ylabel("temperature")
axes[0].legend(fontsize="small")
axes[-1].set_xlabel("hours from now")
plt.tight_layout()
plt.show()
