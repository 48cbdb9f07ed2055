"""`tf.strings`: functions of strings. A number of characters counts bytes, as in TensorFlow, unless `unit` is 'UTF8_CHAR'."""

import functools
import re
from collections.abc import Callable
from typing import Any

import numpy as np

from nbkeras.compat.tensorflow.texts import RaggedStrings, StringTensor, as_strings, mapped, raw_of
from nbkeras.engine.annotations import briefly, one_of
from nbkeras.engine.tensor import Tensor, as_tensor
from nbkeras.ops import hashing

_UNITS = ("BYTE", "UTF8_CHAR")


def _text(raw: bytes) -> str:
    return raw.decode(errors="surrogateescape")  # bytes that are not UTF-8 stay as they are


def _bytes(text: str) -> bytes:
    return text.encode(errors="surrogateescape")


def _of_each(function: Callable[..., bytes]) -> Callable[..., Any]:
    """A function of strings, which is applied to each of them; in rows of different lengths too."""

    @functools.wraps(function)
    def call(input: Any, *args: Any, name: Any = None, **kwargs: Any) -> Any:
        if isinstance(input, RaggedStrings):
            return input.map_rows(lambda row: call(row, *args, **kwargs))
        return StringTensor(mapped(lambda raw: function(raw, *args, **kwargs), raw_of(input)))

    return call


@_of_each
def lower(input: bytes, encoding: str = "") -> bytes:
    """Small letters: of ASCII, or of all alphabets if the encoding is 'utf-8'."""
    return _bytes(_text(input).lower()) if encoding else input.lower()


@_of_each
def upper(input: bytes, encoding: str = "") -> bytes:
    """Capital letters: of ASCII, or of all alphabets if the encoding is 'utf-8'."""
    return _bytes(_text(input).upper()) if encoding else input.upper()


@_of_each
def strip(input: bytes) -> bytes:
    """Strings without spaces at both ends."""
    return input.strip()


@_of_each
def regex_replace(input: bytes, pattern: Any, rewrite: Any, replace_global: bool = True) -> bytes:
    r"""Strings in which each match of a pattern, or the first one, is replaced; \1 in `rewrite` is the first group.

    The pattern is one of Python's `re`, which differs from TensorFlow's RE2 in rare cases.
    """
    new = re.sub(r"\\0", r"\\g<0>", _given(rewrite))
    return _bytes(_pattern(_given(pattern)).sub(new, _text(input), count=0 if replace_global else 1))


def regex_full_match(input: Any, pattern: Any, name: Any = None) -> Tensor:
    """Whether a pattern matches the whole string."""
    found = mapped(lambda raw: _pattern(_given(pattern)).fullmatch(_text(raw)) is not None, raw_of(input))
    return as_tensor(found.astype(bool))


@functools.cache
def _pattern(pattern: str) -> re.Pattern:
    return re.compile(pattern, re.ASCII)  # in RE2, \w, \d and \s are those of ASCII


def _given(value: Any) -> str:
    return _text(as_strings(value).numpy())


def length(input: Any, unit: str = "BYTE", name: Any = None) -> Tensor:
    """The number of bytes, or of characters, of each string, int32."""
    return as_tensor(mapped(len, _in_units(input, unit)).astype(np.int32))


def _in_units(input: Any, unit: str) -> np.ndarray:
    """The strings as bytes or as str, by the unit of their lengths."""
    raw = raw_of(input)
    return raw if one_of("tf.strings", "unit", unit, _UNITS) == "BYTE" else mapped(_text, raw)


def substr(input: Any, pos: Any, len: Any, unit: str = "BYTE", name: Any = None) -> StringTensor:
    """`len` bytes or characters of each string, from `pos` on, or from the end if it is negative."""

    def part(text: Any, start: int, count: int) -> bytes:
        size = text.__len__()
        if not -size <= start <= size:
            raise ValueError(f"tf.strings.substr: pos {start} lies outside a string of length {size}, {briefly(text)}")
        start = start % size if start < 0 else start
        found = text[start : start + count]
        return _bytes(found) if isinstance(found, str) else found

    return StringTensor(mapped(part, _in_units(input, unit), np.asarray(pos), np.asarray(len)))


def join(inputs: Any, separator: Any = "", name: Any = None) -> StringTensor:
    """Strings of several tensors, joined place by place. A single string belongs to all places of the others."""
    between = _bytes(_given(separator))
    return StringTensor(mapped(lambda *parts: between.join(parts), *map(raw_of, inputs)))


def reduce_join(inputs: Any, axis: Any = None, keepdims: bool = False, separator: Any = "", name: Any = None) -> Any:
    """The strings along an axis, or all of them, joined."""
    between = _bytes(_given(separator))
    if isinstance(inputs, RaggedStrings):
        return StringTensor(np.array([between.join(row) for row in inputs.to_list()], object))
    array = raw_of(inputs)
    axes = sorted(each % array.ndim for each in np.atleast_1d(range(array.ndim) if axis is None else axis))
    moved = np.moveaxis(array, axes, range(-len(axes), 0))
    rows = moved.reshape(*moved.shape[: array.ndim - len(axes)], -1)
    found = np.empty(rows.shape[:-1], object)
    for place in np.ndindex(found.shape):
        found[place] = between.join(rows[place].tolist())
    return StringTensor(np.expand_dims(found, tuple(axes)) if keepdims else found)


def _rows(input: Any, parts: Callable[[bytes], list]) -> Any:
    """The parts of each string: a row for one string, rows of different lengths for several."""
    if isinstance(input, RaggedStrings):
        return input.map_rows(lambda row: _rows(row, parts))
    texts = as_strings(input)
    if texts.ndim:
        return RaggedStrings([_rows(each, parts) for each in texts])
    found = parts(texts.numpy())
    return StringTensor(np.array([*found, None], object)[:-1])


def split(input: Any, sep: Any = None, maxsplit: int = -1, name: Any = None) -> Any:
    """The words between spaces, or the parts between separators, of each string: rows of different lengths."""
    between = None if sep is None else _bytes(_given(sep)) or None
    return _rows(input, lambda raw: raw.split(between, maxsplit))


def bytes_split(input: Any, name: Any = None) -> Any:
    """The bytes of each string: rows of different lengths."""
    return _rows(input, lambda raw: [raw[place : place + 1] for place in range(len(raw))])


def unicode_split(
    input: Any, input_encoding: str, errors: str = "replace", replacement_char: int = 65533, name: Any = None
) -> Any:
    """The characters of each string: rows of different lengths. input_encoding: 'UTF-8'.

    errors: 'replace', 'ignore' or 'strict', for bytes that are no characters.
    """
    one_of("tf.strings.unicode_split", "input_encoding", input_encoding, ("UTF-8",))
    one_of("tf.strings.unicode_split", "errors", errors, ("ignore", "replace", "strict"))

    def parts(raw: bytes) -> list[bytes]:
        return [each.encode() for each in raw.decode(errors=errors).replace("\ufffd", chr(replacement_char))]

    return _rows(input, parts)


def as_string(
    input: Any,
    precision: int = -1,
    scientific: bool = False,
    shortest: bool = False,
    width: int = -1,
    fill: str = "",
    name: Any = None,
) -> StringTensor:
    """Numbers as strings, by the formats of C; booleans as 'true' and 'false'."""
    array = np.asarray(input)
    size = f"{fill}{width if width >= 0 else ''}"
    kind = "e" if scientific else "g" if shortest else "f"
    digits = f".{precision}" if precision >= 0 else ""
    form = f"%{size}{digits}{kind}" if array.dtype.kind == "f" else f"%{size}d"
    return StringTensor(
        mapped(lambda number: f"{str(number).lower() if isinstance(number, bool) else form % number}".encode(), array)
    )


def to_number(input: Any, out_type: Any = np.float32, name: Any = None) -> Tensor:
    """The number that each string spells."""
    kind = np.dtype(out_type)
    return as_tensor(mapped(float if kind.kind == "f" else int, raw_of(input)).astype(kind))


def to_hash_bucket_fast(input: Any, num_buckets: int, name: Any = None) -> Tensor:
    """The bin of each string by its hash, FarmHash64, as `keras.layers.Hashing` computes it."""
    return hashing.hash_texts(as_strings(input).array, num_buckets)


def to_hash_bucket_strong(input: Any, num_buckets: int, key: Any, name: Any = None) -> Tensor:
    """The bin of each string by its hash with a key of two numbers, SipHash-2-4."""
    return hashing.hash_texts(as_strings(input).array, num_buckets, key)
