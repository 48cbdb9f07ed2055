"""Functions shared by IMDB and Reuters: texts as word numbers by frequency, with a few reserved numbers."""

import numpy as np


def mark(sequences: np.ndarray, start_char: int | None, index_from: int | None) -> list[list[int]]:
    """Add index_from to the numbers of each sequence and put start_char (if any) before them."""
    first = [] if start_char is None else [start_char]
    return [first + [word + (index_from or 0) for word in sequence] for sequence in sequences]


def shorter(sequences: list, labels: np.ndarray, maxlen: int | None) -> tuple[list, np.ndarray]:
    """The sequences with fewer than maxlen numbers, and their labels; raises ValueError if there are none."""
    if not maxlen:
        return sequences, labels
    kept = [i for i, sequence in enumerate(sequences) if len(sequence) < maxlen]
    if not kept:
        raise ValueError(f"no text has fewer than maxlen={maxlen} words: give a larger maxlen")
    return [sequences[i] for i in kept], labels[kept]


def restrict(sequences: list, num_words: int | None, skip_top: int, oov_char: int | None) -> list[list[int]]:
    """Keep numbers from skip_top to num_words - 1; others become oov_char, or are dropped if it is None."""
    limit = num_words or max(max(sequence) for sequence in sequences)
    if oov_char is None:
        return [[word for word in sequence if skip_top <= word < limit] for sequence in sequences]
    return [[word if skip_top <= word < limit else oov_char for word in sequence] for sequence in sequences]


def as_objects(sequences: list) -> np.ndarray:
    """An array of lists, even if all have the same length."""
    array = np.empty(len(sequences), object)
    array[:] = sequences
    return array
