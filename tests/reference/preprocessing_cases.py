"""Calls of preprocessing layers, each run by make_preprocessing.py with real Keras and by layers/test_preprocessing.py here.

A case: the layer's class and arguments, what it is adapted to (None: nothing), and its inputs.
"""

import numpy as np

random = np.random.RandomState(5)
NUMBERS = random.standard_normal((40, 3)).astype("float32") * 3 + 1
BATCHES = [NUMBERS[:7], NUMBERS[7:30], NUMBERS[30:]]
WORDS = random.randint(-3, 12, (30, 2)).astype("int64")
TEXTS = np.array(["the cat", "The dog, the cat!", "a  bird\tsings", "", "dog's bird-cage", "ÉTÉ the a a a"])
TOKENS = np.array([["cat", "dog", "cat"], ["bird", "cat", "dog"], ["[UNK]", "ant", "dog"], ["", "bee", "bee"]])
UNKNOWN = np.array([["dog", "emu"], ["", "cat"], ["yak", "[UNK]"]])

CASES = {
    "normalization": ("Normalization", {}, NUMBERS, NUMBERS[:4]),
    "normalization_whole": ("Normalization", {"axis": None}, NUMBERS, NUMBERS[:4]),
    "normalization_batches": ("Normalization", {}, BATCHES, NUMBERS[:4]),
    "normalization_inverted": ("Normalization", {"invert": True}, NUMBERS, NUMBERS[:4]),
    "normalization_given": ("Normalization", {"mean": [1.0, 2.0, 3.0], "variance": [4.0, 1.0, 0.0]}, None, NUMBERS[:4]),
    "normalization_axes": ("Normalization", {"axis": (1, 2)}, NUMBERS.reshape(10, 4, 3), NUMBERS[:8].reshape(2, 4, 3)),
    "rescaling": ("Rescaling", {"scale": 1 / 255, "offset": -1.0}, None, WORDS),
    "bins": ("Discretization", {"bin_boundaries": [-1.0, 0.0, 2.5]}, None, NUMBERS),
    "bins_one_hot": ("Discretization", {"bin_boundaries": [-1.0, 0.0], "output_mode": "one_hot"}, None, NUMBERS[:, :1]),
    "bins_counted": ("Discretization", {"bin_boundaries": [-1.0, 0.0], "output_mode": "count"}, None, NUMBERS),
    "bins_learned": ("Discretization", {"num_bins": 5}, NUMBERS, NUMBERS),
    "bins_of_batches": ("Discretization", {"num_bins": 4, "epsilon": 0.1}, BATCHES, NUMBERS),
    "categories": ("CategoryEncoding", {"num_tokens": 12}, None, np.abs(WORDS)),
    "categories_one_hot": (
        "CategoryEncoding",
        {"num_tokens": 12, "output_mode": "one_hot"},
        None,
        np.abs(WORDS[:, :1]),
    ),
    "categories_of_vector": (
        "CategoryEncoding",
        {"num_tokens": 12, "output_mode": "one_hot"},
        None,
        np.abs(WORDS[:, 0]),
    ),
    "categories_counted": ("CategoryEncoding", {"num_tokens": 12, "output_mode": "count"}, None, np.abs(WORDS)),
    "hashing": ("Hashing", {"num_bins": 7}, None, WORDS),
    "hashing_salted": ("Hashing", {"num_bins": 7, "salt": 133}, None, WORDS),
    "hashing_masked": ("Hashing", {"num_bins": 7, "salt": (3, 4), "mask_value": -1}, None, WORDS),
    "hashing_texts": ("Hashing", {"num_bins": 7, "mask_value": ""}, None, TOKENS),
    "hashing_counted": ("Hashing", {"num_bins": 7, "output_mode": "count"}, None, WORDS),
    "hashing_long": (
        "Hashing",
        {"num_bins": 1000},
        None,
        np.array([["x" * n] for n in (0, 3, 7, 16, 17, 32, 33, 64, 65, 200)]),
    ),
    "crossing": ("HashedCrossing", {"num_bins": 9}, None, [WORDS[:, 0], WORDS[:, 1]]),
    "crossing_texts": (
        "HashedCrossing",
        {"num_bins": 9, "output_mode": "one_hot"},
        None,
        [TOKENS[:, :1], WORDS[:4, :1]],
    ),
    "integers": ("IntegerLookup", {}, WORDS[:10], WORDS),
    "integers_given": ("IntegerLookup", {"vocabulary": [5, 1, 3], "mask_token": 0, "num_oov_indices": 3}, None, WORDS),
    "integers_by_hash": (
        "IntegerLookup",
        {"vocabulary": [5, 1, 3], "num_oov_indices": 3, "oov_method": "farmhash", "salt": 7},
        None,
        WORDS,
    ),
    "integers_counted": ("IntegerLookup", {"max_tokens": 6, "output_mode": "count"}, WORDS, WORDS),
    "integers_back": ("IntegerLookup", {"vocabulary": [5, 1, 3], "invert": True}, None, np.array([[0, 1, 2, 3, 4, 9]])),
    "strings": ("StringLookup", {"mask_token": ""}, TOKENS, UNKNOWN),
    "strings_unknown": ("StringLookup", {"vocabulary": ["dog", "cat"], "num_oov_indices": 4}, None, UNKNOWN),
    "strings_salted": ("StringLookup", {"vocabulary": ["dog"], "num_oov_indices": 4, "salt": 5}, None, UNKNOWN),
    "strings_multi_hot": (
        "StringLookup",
        {"mask_token": "", "output_mode": "multi_hot", "max_tokens": 4},
        TOKENS,
        UNKNOWN,
    ),
    "strings_one_hot": ("StringLookup", {"vocabulary": ["dog", "cat"], "output_mode": "one_hot"}, None, UNKNOWN),
    "strings_tf_idf": (
        "StringLookup",
        {"output_mode": "tf_idf", "max_tokens": 9, "pad_to_max_tokens": True},
        TOKENS,
        UNKNOWN,
    ),
    "strings_weighted": (
        "StringLookup",
        {"vocabulary": ["dog", "cat"], "idf_weights": [0.5, 2.0], "output_mode": "tf_idf"},
        None,
        UNKNOWN,
    ),
    "strings_back": ("StringLookup", {"vocabulary": ["dog", "cat"], "invert": True}, None, np.array([[0, 1, 2, 7]])),
    "texts": ("TextVectorization", {}, TEXTS, TEXTS),
    "texts_cut": ("TextVectorization", {"max_tokens": 5, "output_sequence_length": 3}, TEXTS, TEXTS),
    "texts_padded": ("TextVectorization", {"output_sequence_length": 9, "standardize": "lower"}, TEXTS, TEXTS[:, None]),
    "texts_characters": ("TextVectorization", {"split": "character", "standardize": None}, TEXTS, TEXTS),
    "texts_ngrams": ("TextVectorization", {"ngrams": 2, "standardize": "strip_punctuation"}, TEXTS, TEXTS),
    "texts_ngrams_of": ("TextVectorization", {"ngrams": (3,), "output_mode": "count"}, TEXTS, TEXTS),
    "texts_multi_hot": (
        "TextVectorization",
        {"output_mode": "multi_hot", "pad_to_max_tokens": True, "max_tokens": 20},
        TEXTS,
        TEXTS,
    ),
    "texts_tf_idf": ("TextVectorization", {"output_mode": "tf_idf"}, TEXTS, TEXTS),
    "texts_split": ("TextVectorization", {"split": None, "vocabulary": ["dog", "cat"]}, None, UNKNOWN),
}
