"""Cases of the layers for audio; scripts/make_tables_references.py computes them with Keras.

A case is the class's name, its arguments and the shape of its input.
"""

import numpy as np

STFT = {"frame_length": 16, "frame_step": 6, "fft_length": 32}
MEL = {"fft_length": 64, "sequence_stride": 16, "sampling_rate": 1000, "num_mel_bins": 6}
WINDOW = np.hanning(18)[1:-1].tolist()

CASES = {
    **{
        f"stft mode {mode}": ("STFTSpectrogram", {**STFT, "mode": mode}, (2, 50, 1))
        for mode in ("log", "magnitude", "psd")
    },
    **{
        f"stft mode {mode}": ("STFTSpectrogram", {**STFT, "mode": mode}, (2, 50, 2))
        for mode in ("real", "imag", "angle")
    },
    "stft mode stft": ("STFTSpectrogram", {**STFT, "mode": "stft"}, (2, 50, 2)),
    "stft defaults": ("STFTSpectrogram", {}, (1, 600, 1)),
    "stft same": ("STFTSpectrogram", {**STFT, "padding": "same"}, (2, 50, 3)),
    "stft images": ("STFTSpectrogram", {**STFT, "expand_dims": True, "mode": "psd"}, (2, 50, 3)),
    "stft first": ("STFTSpectrogram", {**STFT, "data_format": "channels_first", "padding": "same"}, (2, 3, 50)),
    "stft images first": (
        "STFTSpectrogram",
        {**STFT, "data_format": "channels_first", "expand_dims": True, "mode": "magnitude"},
        (2, 3, 50),
    ),
    "stft first stft": ("STFTSpectrogram", {**STFT, "data_format": "channels_first", "mode": "stft"}, (2, 2, 50)),
    "stft hamming spectrum": ("STFTSpectrogram", {**STFT, "window": "hamming", "scaling": "spectrum"}, (2, 50, 1)),
    "stft periodic": ("STFTSpectrogram", {**STFT, "window": "blackman", "periodic": True, "scaling": None}, (2, 50, 1)),
    "stft window": ("STFTSpectrogram", {**STFT, "window": WINDOW}, (2, 50, 1)),
    "stft no window": ("STFTSpectrogram", {**STFT, "window": None, "mode": "magnitude"}, (2, 50, 1)),
    "stft odd": ("STFTSpectrogram", {"frame_length": 15, "fft_length": 21, "mode": "magnitude"}, (2, 50, 1)),
    "stft float64": ("STFTSpectrogram", {**STFT, "dtype": "float64"}, (2, 50, 1)),
    "mel defaults": ("MelSpectrogram", {}, (2, 4000)),
    "mel": ("MelSpectrogram", MEL, (3, 200)),
    "mel one signal": ("MelSpectrogram", MEL, (200,)),
    "mel power": ("MelSpectrogram", {**MEL, "power_to_db": False}, (2, 200)),
    "mel magnitude": ("MelSpectrogram", {**MEL, "power_to_db": False, "mag_exp": 1.0}, (2, 200)),
    "mel decibels": ("MelSpectrogram", {**MEL, "top_db": 12.0, "ref_power": 3.0, "min_power": 1e-3}, (2, 200)),
    "mel short window": ("MelSpectrogram", {**MEL, "sequence_length": 40, "window": "hamming"}, (2, 200)),
    "mel own window": ("MelSpectrogram", {**MEL, "sequence_length": 16, "window": WINDOW}, (2, 200)),
    "mel no window": ("MelSpectrogram", {**MEL, "window": None}, (2, 200)),
    "mel frequencies": ("MelSpectrogram", {**MEL, "min_freq": 50.0, "max_freq": 300.0, "num_mel_bins": 4}, (2, 200)),
    "mel float64": ("MelSpectrogram", {**MEL, "dtype": "float64"}, (2, 200)),
}
# magnitudes near 0, where the slope of the logarithm makes rounding errors large; or many numbers for a file
WITHOUT_GRADIENTS = {"stft same", "stft first", "stft hamming spectrum", "stft defaults", "mel defaults"}


def signal(name: str) -> np.ndarray:
    """The input of a case: two tones and noise."""
    _, options, shape = CASES[name]
    rng = np.random.default_rng(len(name))
    time = np.arange(max(shape)) / 37.0
    first = options.get("data_format") == "channels_first" or len(shape) < 3
    tones = np.sin(2 * np.pi * 3.3 * time) + 0.5 * np.cos(2 * np.pi * 9.1 * time)
    return ((tones if first else tones[:, None]) + rng.normal(size=shape) * 0.3).astype(options.get("dtype", "float32"))


def factors(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The factors of the outputs in the sum whose gradient is compared."""
    return np.random.default_rng(7).normal(size=shape).astype(CASES[name][1].get("dtype", "float32"))


def trained(k):
    """(model, losses): a model over a trainable spectrogram after some steps of training."""
    x = np.random.default_rng(1).normal(size=(8, 60, 1)).astype("float32")
    y = np.random.default_rng(2).normal(size=(8, 2)).astype("float32")
    layers = [k.layers.STFTSpectrogram(**STFT), k.layers.GlobalAveragePooling1D(), k.layers.Dense(2, name="head")]
    model = k.Sequential([k.Input((60, 1)), *layers])
    shape = model.get_layer("head").kernel.shape
    model.get_layer("head").kernel.assign(np.linspace(-0.1, 0.1, int(np.prod(shape))).reshape(shape))
    model.compile(k.optimizers.SGD(0.01), "mse")
    losses = model.fit(x, y, epochs=4, batch_size=4, shuffle=False, verbose=0).history["loss"]
    return model, np.array(losses)


def recognizer(k):
    """A model of both kinds of layers for a file."""
    sound = k.Input((200,), name="sound")
    mel = k.layers.MelSpectrogram(**MEL, name="mel")(sound)
    steps = k.layers.STFTSpectrogram(**STFT, window="hamming", padding="same", name="stft")(
        k.layers.Reshape((200, 1))(sound)
    )
    ends = [k.layers.GlobalAveragePooling1D()(each) for each in (mel, steps)]
    return k.Model(sound, k.layers.Dense(3)(k.layers.Concatenate()(ends)))
