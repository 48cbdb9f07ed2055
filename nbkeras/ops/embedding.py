"""Differentiable lookup of rows in a table."""

from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import embedding as embedding_kernels
from nbkeras.ops.arguments import as_index


@op
def embedding(indices, table) -> Tensor:
    """Look up rows of a table: y[..., :] = table[indices[...], :].

    The gradient is added into the rows that were used, and is 0 elsewhere.

    Args:
        indices: Row numbers of any shape (...). Floats are truncated; a negative number counts from the end;
            a number outside the table gives a row of NaN and no gradient, as Keras on JAX does.
        table: Floats (rows, width), or such a table quantized by rows.

    Returns:
        A tensor (..., width) of table's dtype. Differentiable in table.

    Raises:
        ValueError: if the table is not a float matrix.

    Example:
        >>> table = np.array([[0.0, 0.0], [1.0, 1.5], [2.0, 2.5]])
        >>> ops.embedding([2, 0, 2], table).numpy()
        array([[2. , 2.5],
               [0. , 0. ],
               [2. , 2.5]])
    """
    if getattr(table, "is_quantized", False):
        return table.rows(indices)
    table = as_tensor(table)
    if table.ndim != 2 or table.dtype.kind != "f":
        raise ValueError(
            f"embedding: the table must be a float matrix (rows, width), received shape {table.shape} of dtype "
            f"{table.dtype}"
        )
    return apply(embedding_kernels.gather, embedding_kernels.gather_vjp, [table, as_index(indices)])
