"""Products of int8 matrices inside compiled kernels: `integer_gemm`, row-major, summed exactly in int32."""

from nbkeras.kernels.runtime.cache import compiled


@compiled
def integer_gemm(m, n, k, a, ao, lda, b, bo, ldb, c, co, ldc):
    """C[m, n] = A[m, k] @ B[k, n]: a, b of int8, c of int32, flat; ao, bo, co: offsets; lda, ldb, ldc: steps of rows."""
    for i in range(m):
        out = c[co + i * ldc : co + i * ldc + n]
        for j in range(n):
            out[j] = 0
        for p in range(k):
            factor, row = a[ao + i * lda + p], b[bo + p * ldb : bo + p * ldb + n]
            for j in range(row.size):
                out[j] += factor * row[j]
