"""Einstein summation: operands are contracted in pairs, each by one matrix product or an elementwise product."""

import itertools
import math
import string

from nbkeras.engine.annotations import briefly
from nbkeras.engine.tensor import Tensor, as_tensor, op
from nbkeras.ops import elementwise, reduce
from nbkeras.ops.arguments import as_float, promote
from nbkeras.ops.dense import product
from nbkeras.ops.indexing import getitem
from nbkeras.ops.shape import reshape, transpose

Term = tuple[list[str], Tensor]  # the letters of a tensor's axes, and the tensor


@op
def einsum(subscripts: str, *operands) -> Tensor:
    """Einstein summation: products of tensors, summed over the axes whose letters the result does not name.

    With more than two operands, the cheapest pairs are contracted first.

    Args:
        subscripts: Letters for the axes of each operand and of the result, as 'bqhd,bkhd->bhqk', '...ij,jk'
            or 'ii->i'. A letter that occurs twice in one operand takes its diagonal. '...' stands for the
            axes without a letter, which broadcast, as axes of size 1 do. Without '->' the result has the
            ellipsis, then the letters that occur once, in alphabetical order.
        *operands: As many tensors as `subscripts` names; they are converted to one dtype.

    Returns:
        A tensor with the axes that the result names.

    Raises:
        ValueError: if the subscripts have another form, or do not fit the operands.

    Example:
        >>> a, b = np.array([[1.0, 2.0], [3.0, 4.0]]), np.array([1.0, 10.0])
        >>> ops.einsum("ij,j->i", a, b).numpy()  # a matrix times a vector
        array([21., 43.])
        >>> ops.einsum("ii->", a).numpy()  # the trace
        array(5.)
        >>> ops.einsum("bqhd,bkhd->bhqk", np.ones((2, 5, 4, 8)), np.ones((2, 7, 4, 8))).shape
        (2, 4, 5, 7)
    """
    if len(operands) == 2 and getattr(operands[1], "is_quantized", False):
        kernel = operands[1]
        return kernel.einsum(subscripts, as_tensor(as_float(operands[0]), kernel.scale.dtype))
    tensors = promote(*operands) if operands else []
    inputs, result = letters_of(subscripts, tensors)
    sizes: dict[str, int] = {}
    for letters, tensor in zip(inputs, tensors, strict=True):
        for letter, size in zip(letters, tensor.shape, strict=True):
            if sizes.setdefault(letter, size) == 1:
                sizes[letter] = size
            elif size not in (1, sizes[letter]):
                shapes = ", ".join(str(t.shape) for t in tensors)
                raise ValueError(f"einsum: the sizes of {letter!r} in {subscripts!r} differ; received shapes {shapes}")
    terms = [_plain(letters, x, sizes) for letters, x in zip(inputs, tensors, strict=True)]
    while len(terms) > 1:
        pair = min(
            itertools.combinations(range(len(terms)), 2), key=lambda pair: _cost([terms[i] for i in pair], sizes)
        )
        (a, x), (b, y) = (terms[i] for i in pair)
        terms = [term for i, term in enumerate(terms) if i not in pair]
        kept = {*result}.union(*(letters for letters, _ in terms))
        terms.append(_contracted(_summed(a, x, kept.union(b)), _summed(b, y, kept.union(a)), kept, result))
    letters, x = _summed(*terms[0], set(result))
    return _arranged(x, letters, result)


def _cost(pair: list[Term], sizes: dict[str, int]) -> int:
    """The number of multiplications that contracting two terms takes."""
    return math.prod(sizes[c] for c in {c for letters, _ in pair for c in letters})


def letters_of(subscripts: str, tensors: list[Tensor]) -> tuple[list[list[str]], list[str]]:
    """The letters of each operand and of the result, with unused letters for the axes of ellipses."""
    left, arrow, right = subscripts.replace(" ", "").partition("->")
    parts = left.split(",")
    plain = [part.replace("...", "", 1) for part in [*parts, right]]
    if not all(part.isascii() and (part.isalpha() or not part) for part in plain) or len(parts) != len(tensors):
        raise ValueError(
            f"einsum takes letters for axes, at most one '...' per operand, and one operand for each term; received "
            f"{briefly(subscripts)} and {len(tensors)} operands"
        )
    unused = [c for c in string.ascii_letters if c not in left]
    inputs, widest = [], 0
    for part, letters, tensor in zip(parts, plain, tensors, strict=False):
        extra = tensor.ndim - len(letters)
        if extra < 0 or (extra and "..." not in part):
            raise ValueError(f"einsum: {part!r} of {subscripts!r} does not fit a tensor of shape {tensor.shape}")
        widest = max(widest, extra)
        inputs.append((part, unused[len(unused) - extra :]))
    ellipsis = unused[len(unused) - widest :]

    def named(part: str, axes: list[str]) -> list[str]:
        before, dots, after = part.partition("...")
        return [*before, *(axes if dots else []), *after]

    if not arrow:
        right = "..." + "".join(sorted(c for c in set(left) if c.isalpha() and left.count(c) == 1))
    result = named(right, ellipsis)
    known = set(ellipsis).union(*plain[:-1])
    if len(set(result)) != len(result) or not set(result) <= known or not set(ellipsis) <= set(result):
        raise ValueError(
            f"einsum: the result of {subscripts!r} must have letters of the operands, each once, and '...' where they have it"
        )
    return [named(part, axes) for part, axes in inputs], result


def _plain(letters: list[str], x: Tensor, sizes: dict[str, int]) -> Term:
    """Make each letter occur once: take the diagonals of repeated letters, drop axes of size 1 that are larger elsewhere."""
    kept = [i for i, c in enumerate(letters) if x.shape[i] == sizes[c]]
    letters, x = [letters[i] for i in kept], reshape(x, tuple(x.shape[i] for i in kept))
    for c in dict.fromkeys(letters):
        while letters.count(c) > 1:
            first = letters.index(c)
            second = letters.index(c, first + 1)
            rest = [i for i in range(x.ndim) if i not in (first, second)]
            x = transpose(x, (*rest, first, second))
            n = sizes[c]
            x = getitem(reshape(x, (*x.shape[:-2], n * n)), (..., slice(None, None, n + 1)))
            letters = [*(letters[i] for i in rest), c]
    return letters, x


def _summed(letters: list[str], x: Tensor, kept: set[str]) -> Term:
    """The term summed over the letters that are not kept."""
    axes = [i for i, c in enumerate(letters) if c not in kept]
    return ([c for c in letters if c in kept], reduce.sum(x, axes)) if axes else (letters, x)


def _arranged(x: Tensor, letters: list[str], order: list[str]) -> Tensor:
    """The tensor with its axes in another order of their letters; the tensor itself if the order is the same."""
    return x if letters == order else transpose(x, tuple(letters.index(c) for c in order))


def _contracted(left: Term, right: Term, kept: set[str], result: list[str]) -> Term:
    """The product of two terms, summed over the letters of both that are not kept. Axes are as in the result if possible."""
    (a, x), (b, y) = left, right
    own, others = ([result.index(c) for c in p if c not in q and c in result] for p, q in ((a, b), (b, a)))
    if own and others and min(own) > min(others):
        (a, x), (b, y) = right, left
    sizes = dict(zip([*a, *b], [*x.shape, *y.shape], strict=True))
    summed = [c for c in a if c in b and c not in kept]
    batch = [c for c in a if c in b and c in kept]
    rows, columns = [c for c in a if c not in b], [c for c in b if c not in a]
    if not summed or not (rows or columns):
        return _elementwise(left, right, summed)

    def matrices(letters: list[str], tensor: Tensor, free: list[str]) -> tuple[Tensor, bool]:
        """The tensor as (batch, free, summed), or with the last two swapped if they lie in memory in that order."""
        swapped = letters == [*batch, *summed, *free] and bool(free)
        groups = (batch, summed, free) if swapped else (batch, free, summed)
        moved = _arranged(tensor, letters, [c for group in groups for c in group])
        return reshape(moved, tuple(math.prod(sizes[c] for c in group) for group in groups)), swapped

    (p, p_swapped), (q, q_swapped) = matrices(a, x, rows), matrices(b, y, columns)
    z = product(p, q, transpose_x=p_swapped, transpose_y=not q_swapped)
    letters = [*batch, *rows, *columns]
    return letters, reshape(z, tuple(sizes[c] for c in letters))


def _elementwise(left: Term, right: Term, summed: list[str]) -> Term:
    """The product of two terms as an elementwise product."""
    (a, x), (b, y) = left, right
    letters = [*a, *(c for c in b if c not in a)]
    x = reshape(x, (*x.shape, *[1] * (len(letters) - len(a))))
    found = [c for c in letters if c in b]
    y = _arranged(y, b, found)
    sizes = dict(zip(found, y.shape, strict=True))
    z = elementwise.multiply(x, reshape(y, tuple(sizes.get(c, 1) for c in letters)))
    return _summed(letters, z, {c for c in letters if c not in summed})
