"""Twin of half_products.py: products of numbers of 16 bits on tensor cores."""

from nbkeras.kernels.cuda.loops import gemm as gemm_cuda


def multiply_halves(kind, ta, tb, a, b, bias, c, batches, m, n, k, a_step, b_step, rectify) -> None:
    """C[i] = op(A[i]) @ op(B[i]) + bias, or its positive part if rectify, for numbers of 16 bits."""
    operands = a, 0, m if ta else k, b, 0, k if tb else n, 0, c, 0, n
    gemm_cuda.product(ta, tb, m, n, k, *operands, bias, rectify, batches, a_step, b_step, m * n, kind)
