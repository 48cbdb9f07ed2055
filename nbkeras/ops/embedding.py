"""Differentiable lookup of rows in a table."""

from nbkeras.engine.tensor import Tensor, apply, as_tensor, op
from nbkeras.kernels import embedding as embedding_kernels
from nbkeras.ops.arguments import as_index


@op
def embedding(indices, table) -> Tensor:
    """Rows of a table: y[..., :] = table[indices[...], :]; the gradient is added into the rows used and is 0 elsewhere.

    Shapes: indices (...), table (rows, width) -> (..., width). Indices may have any dtype; floats are truncated. A
    negative index counts from the end. An index outside the table gives a row of NaN and no gradient, as Keras on JAX does.
    """
    table = as_tensor(table)
    if table.ndim != 2 or table.dtype.kind != "f":
        raise ValueError(
            f"embedding: the table must be a float matrix (rows, width), received shape {table.shape} of dtype "
            f"{table.dtype}"
        )
    return apply(embedding_kernels.gather, embedding_kernels.gather_vjp, [table, as_index(indices)])
