"""Keras's `preprocessing`: sequences and texts. Numbers are those of Keras 3.15 (`keras.src.legacy.preprocessing`)."""

import json
import random

import numpy as np
import pytest

from nbkeras.preprocessing import sequence, text


class TestTimeseriesGenerator:
    data = np.arange(20).reshape(10, 2)
    targets = np.arange(10)

    def test_windows_and_targets(self):
        batches = sequence.TimeseriesGenerator(self.data, self.targets, length=4, sampling_rate=2, batch_size=4)
        assert len(batches) == 2
        x, y = batches[0]
        assert x.shape == (4, 2, 2) and y.tolist() == [4, 5, 6, 7]
        np.testing.assert_array_equal(x[0], self.data[[0, 2]])
        assert batches[1][1].tolist() == [8, 9]

    def test_stride_reverse_and_bounds(self):
        batches = sequence.TimeseriesGenerator(
            self.data, self.targets, 2, stride=2, start_index=1, end_index=7, reverse=True, batch_size=9
        )
        x, y = batches[0]
        assert y.tolist() == [3, 5, 7]
        np.testing.assert_array_equal(x[0], self.data[[2, 1]])

    def test_shuffle_draws_with_numpys_generator(self):
        batches = sequence.TimeseriesGenerator(self.data, self.targets, 2, shuffle=True, batch_size=3)
        np.random.seed(0)
        rows = np.random.randint(2, 10, 3)
        np.random.seed(0)
        assert batches[0][1].tolist() == rows.tolist()

    def test_json(self):
        config = json.loads(sequence.TimeseriesGenerator(self.data, self.targets, 3).to_json())["config"]
        assert config["length"] == 3 and json.loads(config["data"]) == self.data.tolist()

    def test_mistakes_are_explained(self):
        with pytest.raises(ValueError, match="10 rows and 9 targets"):
            sequence.TimeseriesGenerator(self.data, self.targets[1:], 3)
        with pytest.raises(ValueError, match="start_index.length=12 > end_index=9"):
            sequence.TimeseriesGenerator(self.data, self.targets, 12)
        with pytest.raises(TypeError, match="targets of a TimeseriesGenerator cannot be written"):
            sequence.TimeseriesGenerator([1, 2, 3], [{1}, {2}, {3}], 1).to_json()


class TestSkipgrams:
    def test_pairs_and_labels(self):
        couples, labels = sequence.skipgrams([1, 2, 0, 3], 4, window_size=1, negative_samples=0, shuffle=False)
        assert couples == [[1, 2], [2, 1]] and labels == [1, 1]

    def test_negative_samples_and_seed(self):
        random.seed(1)
        couples, labels = sequence.skipgrams(range(5), 5, window_size=2, seed=3, categorical=True)
        assert len(couples) == len(labels) == 20 and labels.count([0, 1]) == labels.count([1, 0]) == 10
        for (word, other), label in zip(couples, labels, strict=True):
            assert label == [1, 0] or 0 < abs(word - other) <= 2

    def test_sampling_table(self):
        table = sequence.make_sampling_table(1000)
        np.testing.assert_allclose(table[[0, 1, 10, 999]], [0.00315225, 0.00315225, 0.0171136, 0.27343685], rtol=1e-5)
        couples, _ = sequence.skipgrams([1, 2, 3], 4, sampling_table=np.zeros(4))
        assert couples == []

    def test_remove_long_sequences(self):  # a private name of Keras's, which datasets import
        assert sequence._remove_long_seq(3, [[1], [1, 2], [1, 2, 3]], [7, 8, 9]) == ([[1], [1, 2]], [7, 8])


TEXTS = ["The cat sat on the mat.", "The dog sat on the log.", "Dogs and cats living together."]


class TestTokenizer:
    def test_numbers_by_frequency(self):
        tokenizer = text.Tokenizer()
        tokenizer.fit_on_texts(TEXTS)
        assert list(tokenizer.word_index)[:4] == ["the", "sat", "on", "cat"]
        assert tokenizer.texts_to_sequences(["the dog ate the mat"]) == [[1, 6, 1, 5]]
        assert tokenizer.sequences_to_texts([[1, 6, 99]]) == ["the dog"]
        assert tokenizer.word_docs["the"] == 2 and tokenizer.document_count == 3

    def test_oov_token_and_num_words(self):
        tokenizer = text.Tokenizer(num_words=4, oov_token="?")
        tokenizer.fit_on_texts(TEXTS)
        assert tokenizer.texts_to_sequences(["the unknown dog sat"]) == [[2, 1, 1, 3]]
        assert tokenizer.sequences_to_texts([[2, 9, 55]]) == ["the ? ?"]

    def test_characters_lists_and_analyzers(self):
        tokenizer = text.Tokenizer(char_level=True)
        tokenizer.fit_on_texts(["Aab"])
        assert tokenizer.word_index == {"a": 1, "b": 2}
        tokenizer = text.Tokenizer(analyzer=lambda words: words.split("-"))
        tokenizer.fit_on_texts(["x-y-x", ["Z", "x"]])
        assert tokenizer.word_index == {"x": 1, "y": 2, "z": 3}

    @pytest.mark.parametrize(
        "mode, row",
        [
            ("binary", [0, 1, 1, 0]),
            ("count", [0, 2, 1, 0]),
            ("freq", [0, 2 / 3, 1 / 3, 0]),
            ("tfidf", [0, (1 + np.log(2)) * np.log(1 + 2 / 3), np.log(1 + 2 / 2), 0]),
        ],
    )
    def test_matrix(self, mode, row):
        tokenizer = text.Tokenizer(num_words=4)
        tokenizer.fit_on_texts(["a b", "a c"])
        np.testing.assert_allclose(tokenizer.sequences_to_matrix([[1, 1, 2]], mode), [row])
        np.testing.assert_allclose(tokenizer.texts_to_matrix(["a b a"], mode), [row])

    def test_json_round_trip(self):
        tokenizer = text.Tokenizer(num_words=9, oov_token="?")
        tokenizer.fit_on_texts(TEXTS)
        back = text.tokenizer_from_json(tokenizer.to_json())
        assert back.get_config() == tokenizer.get_config() and back.index_word == tokenizer.index_word
        back.fit_on_texts(TEXTS)
        assert back.document_count == 6 and back.word_counts["the"] == 8
        assert back.texts_to_matrix(TEXTS, "tfidf").shape == tokenizer.texts_to_matrix(TEXTS, "tfidf").shape

    def test_texts_in_several_calls_are_counted_once(self):
        tokenizer, at_once = text.Tokenizer(), text.Tokenizer()
        tokenizer.fit_on_texts(["a b"])
        tokenizer.fit_on_texts(["a c"])
        at_once.fit_on_texts(["a b", "a c"])
        assert tokenizer.index_docs == at_once.index_docs == {1: 2, 2: 1, 3: 1}

    def test_sequences_alone(self):
        tokenizer = text.Tokenizer(num_words=5)
        tokenizer.fit_on_sequences([[1, 2], [2]])
        assert tokenizer.index_docs == {1: 1, 2: 2}
        assert tokenizer.sequences_to_matrix([[1, 2]], "tfidf").shape == (1, 5)

    def test_mistakes_are_explained(self):
        with pytest.raises(ValueError, match="knows no words"):
            text.Tokenizer().sequences_to_matrix([[1]])
        with pytest.raises(ValueError, match="needs counts of documents"):
            text.Tokenizer(num_words=3).sequences_to_matrix([[1]], "tfidf")
        with pytest.raises(ValueError, match="Unknown vectorization mode: 'sum'"):
            text.Tokenizer(num_words=3).sequences_to_matrix([[1]], "sum")


def test_words_and_hashes():
    assert text.text_to_word_sequence("Hello, World!") == ["hello", "world"]
    assert text.text_to_word_sequence("aXXbXX", lower=False, split="XX", filters="") == ["a", "b"]
    words = text.text_to_word_sequence("\u00dcber, Stra\u00dfe\u2026 \u00e7a?")
    assert words == ["\u00fcber", "stra\u00dfe\u2026", "\u00e7a"]
    assert text.hashing_trick("the cat", 10, "md5") == [6, 3]
    assert text.hashing_trick("a b", 5, analyzer=lambda _: ["x"] * 3, hash_function=len) == [2, 2, 2]
    assert all(1 <= number < 7 for number in text.one_hot("one two three four", 7))
