"""A page that trains a network on handwritten digits in the reader's browser.

`python examples/browser/make_page.py FOLDER` writes the page, the network as WebAssembly, and the digits. Then
`python -m http.server --directory FOLDER` serves it: open http://localhost:8000. There is no code on the server.

The page draws: it crops a drawing to 32x32 points and counts the points in squares of 4x4, as the data set was made.
"""

import shutil
import sys
from pathlib import Path

import numpy as np

import nbkeras as keras
from nbkeras import layers

BATCH = 32


def main(folder: str) -> None:
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    (x_train, y_train), (x_test, y_test) = keras.datasets.digits.load_data()
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 1), name="image"),
            layers.Conv2D(16, 3, padding="same", activation="relu"),
            layers.MaxPooling2D(2),
            layers.Conv2D(32, 3, padding="same", activation="relu"),
            layers.Flatten(),
            layers.Dropout(0.3),
            layers.Dense(10, activation="softmax", name="digit"),
        ],
        name="digits",
    )
    model.compile(keras.optimizers.Adam(0.003), "sparse_categorical_crossentropy", metrics=["accuracy"])
    x = (x_train[:BATCH, :, :, None] / 16).astype("float32")
    model.export(out / "digits.wasm", training=True, example=(x, y_train[:BATCH].astype("int32")))
    # an image of 64 bytes (0 to 16) and its label, for each digit: first those to train with
    images = np.concatenate([x_train, x_test]).reshape(-1, 64).astype(np.uint8)
    labels = np.concatenate([y_train, y_test]).reshape(-1, 1).astype(np.uint8)
    (out / "digits.bin").write_bytes(np.concatenate([images, labels], 1).tobytes())
    page = Path(__file__).with_name("index.html").read_text(encoding="utf-8")
    (out / "index.html").write_text(page.replace("$TRAINING", str(len(x_train))), encoding="utf-8")
    shutil.copy(Path(__file__).with_name("page.mjs"), out)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "page")
