"""Make tests/packages/data/keras_hub.npz and keras_hub.lora.h5: what small models of KerasHub give with real Keras.

pip install keras jax tensorflow-cpu kagglehub sentencepiece tokenizers regex rich absl-py
pip install --no-deps keras-hub==0.31.1
KERAS_BACKEND=jax python scripts/make_keras_hub_references.py
"""

import pathlib
import sys

import keras
import keras_hub
import numpy as np

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "tests" / "packages"


def main() -> None:
    sys.path.insert(0, str(FOLDER))
    import keras_hub_backbones as small

    found = {name: small.outputs(name, keras_hub.models) for name in small.BACKBONES}
    found["classifier_losses"] = small.classifier_losses(keras_hub.models, keras)
    model = small.lora_model(keras_hub.models, keras)
    found["lora_losses"] = small.lora_losses(model)
    model.backbone.save_lora_weights(str(FOLDER / "data" / "keras_hub.lora.h5"))
    found["lora_logits"] = np.asarray(model(small.inputs("GemmaBackbone")), "float32")
    np.savez_compressed(FOLDER / "data" / "keras_hub.npz", **found)
    for name, values in found.items():
        print(name, values.ravel()[:3])


if __name__ == "__main__":
    main()
