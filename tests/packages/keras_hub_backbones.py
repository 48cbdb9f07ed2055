"""Small backbones of KerasHub with inputs and weights that nbkeras and real Keras make in the same way."""

import zlib

import numpy as np

_SIZES = {"num_layers": 2, "hidden_dim": 16, "intermediate_dim": 32}
_SMALL = {"vocabulary_size": 40, "num_heads": 2, **_SIZES}
_SHORT = {**_SMALL, "max_sequence_length": 12}
_GROUPED = {"vocabulary_size": 40, "num_query_heads": 4, "num_key_value_heads": 2, **_SIZES}
_IMAGE = {"image_shape": (32, 32, 3)}
_MASKED, _SEGMENTS = ("token_ids", "padding_mask"), ("token_ids", "segment_ids", "padding_mask")
_TWO = ("encoder_token_ids", "encoder_padding_mask", "decoder_token_ids", "decoder_padding_mask")


def _without(arguments: dict, *names: str) -> dict:
    return {name: value for name, value in arguments.items() if name not in names}


# Name of the class -> its arguments and the names of its inputs; 'images' stands for an array of images.
BACKBONES: dict[str, tuple[dict, tuple[str, ...]]] = {
    "AlbertBackbone": ({**_SHORT, "embedding_dim": 8, "num_groups": 1, "num_inner_repetitions": 1}, _SEGMENTS),
    "BartBackbone": (_SHORT, _TWO),
    "BertBackbone": (_SHORT, _SEGMENTS),
    "BloomBackbone": (_SMALL, _MASKED),
    "DebertaV3Backbone": ({**_SHORT, "bucket_size": 8}, _MASKED),
    "DenseNetBackbone": ({"stackwise_num_repeats": [2, 2, 2], "growth_rate": 4, **_IMAGE}, ("images",)),
    "DistilBertBackbone": (_SHORT, _MASKED),
    "ElectraBackbone": ({"vocab_size": 40, "embedding_dim": 8, **_without(_SHORT, "vocabulary_size")}, _SEGMENTS),
    "FNetBackbone": (_without(_SHORT, "num_heads"), _SEGMENTS[:2]),
    "FalconBackbone": ({**_without(_SMALL, "num_heads"), "num_attention_heads": 4}, _MASKED),
    "GPT2Backbone": (_SHORT, _MASKED),
    "GPTNeoXBackbone": (_SHORT, _MASKED),
    "GemmaBackbone": ({**_GROUPED, "head_dim": 4}, _MASKED),
    "LlamaBackbone": (_GROUPED, _MASKED),
    "MistralBackbone": ({**_GROUPED, "sliding_window": 5}, _MASKED),
    "MixtralBackbone": ({**_GROUPED, "num_experts": 2, "top_k": 2}, _MASKED),
    "OPTBackbone": (_SHORT, _MASKED),
    "Phi3Backbone": (_GROUPED, _MASKED),
    "QwenBackbone": (_GROUPED, _MASKED),
    "Qwen3Backbone": ({**_GROUPED, "head_dim": 4}, _MASKED),
    "ResNetBackbone": (
        {
            "input_conv_filters": [16],
            "input_conv_kernel_sizes": [7],
            "stackwise_num_filters": [64, 64],
            "stackwise_num_blocks": [2, 2],
            "stackwise_num_strides": [1, 2],
            "block_type": "bottleneck_block",
            **_IMAGE,
        },
        ("images",),
    ),
    "RobertaBackbone": (_SHORT, _MASKED),
    "T5Backbone": (_SMALL, _TWO),
    "VGGBackbone": ({"stackwise_num_repeats": [1, 2], "stackwise_num_filters": [8, 16], **_IMAGE}, ("images",)),
    "ViTBackbone": (
        {"patch_size": (8, 8), "num_layers": 2, "hidden_dim": 16, "num_heads": 2, "mlp_dim": 32, **_IMAGE},
        ("images",),
    ),
    "WhisperBackbone": (
        {**_SMALL, "max_encoder_sequence_length": 12, "max_decoder_sequence_length": 12},
        ("encoder_features", *_TWO[2:]),
    ),
    "XLMRobertaBackbone": (_SHORT, _MASKED),
    "XceptionBackbone": (
        {"stackwise_conv_filters": [[8, 16], [16, 16]], "stackwise_pooling": [True, False], "image_shape": (40, 40, 3)},
        ("images",),
    ),
}


def _numbers(name: str, shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(zlib.crc32(name.encode())).uniform(-1, 1, shape).astype("float32")


def inputs(name: str):
    """The inputs of a backbone: rows of different lengths, or images."""
    arguments, wanted = BACKBONES[name]
    if wanted == ("images",):
        return _numbers("images", (2, *arguments["image_shape"]))
    made = {
        "token_ids": (20 + 19 * _numbers("tokens", (2, 7))).astype("int32"),
        "segment_ids": np.array([[0, 0, 0, 1, 1, 1, 1], [0, 1, 1, 1, 0, 0, 0]], "int32"),
        "padding_mask": np.array([[1] * 7, [1] * 4 + [0] * 3], "int32"),
        "features": _numbers("features", (2, 9, 80)),
    }
    return {each: made[each.removeprefix("encoder_").removeprefix("decoder_")] for each in wanted}


def fill(model) -> None:
    """Set all float weights by their positions and shapes."""
    values = []
    for number, (variable, value) in enumerate(zip(model.weights, model.get_weights(), strict=True)):
        if value.dtype.kind == "f":
            drawn = 0.3 * _numbers(f"{number} {value.shape}", value.shape)
            value = 1 + drawn if variable.name in ("gamma", "scale", "moving_variance") else drawn
        values.append(value)
    model.set_weights(values)


def outputs(name: str, models) -> np.ndarray:
    """The first numbers of each output of a backbone, in one array. models: `keras_hub.models`."""
    model = getattr(models, name)(**BACKBONES[name][0])
    fill(model)
    found = model(inputs(name))
    found = [found[key] for key in sorted(found)] if isinstance(found, dict) else [found]
    return np.concatenate([np.asarray(each, "float32").ravel()[:300] for each in found])


def classifier_losses(models, keras) -> np.ndarray:
    """The losses of BERT's classifier in five epochs of training."""
    backbone = models.BertBackbone(**BACKBONES["BertBackbone"][0], dropout=0.0)
    model = models.BertTextClassifier(backbone, num_classes=2, preprocessor=None, dropout=0.0)
    fill(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss)
    history = model.fit(inputs("BertBackbone"), np.array([0, 1]), batch_size=2, epochs=5, shuffle=False, verbose=0)
    return np.array(history.history["loss"], "float32")


def lora_model(models, keras):
    """A small Gemma with LoRA, compiled."""
    backbone = models.GemmaBackbone(**BACKBONES["GemmaBackbone"][0])
    model = models.GemmaCausalLM(backbone, preprocessor=None)
    backbone.enable_lora(rank=2)
    fill(model)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer=keras.optimizers.Adam(0.01), loss=loss, sampler="greedy")
    return model


def lora_losses(model) -> np.ndarray:
    """The losses of training a model with LoRA for five epochs, to predict the next token."""
    x = inputs("GemmaBackbone")
    y, weights = np.roll(x["token_ids"], -1, axis=1), x["padding_mask"]
    history = model.fit(x, y, sample_weight=weights, batch_size=2, epochs=5, shuffle=False, verbose=0)
    return np.array(history.history["loss"], "float32")
