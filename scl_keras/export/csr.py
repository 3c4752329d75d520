"""Encode kernels as compressed sparse rows, in a file the converter wrote.

Why not leave it to `EXPERIMENTAL_SPARSITY`: from about 97 % of zeros it takes
blocks of four for a `Dense` kernel, which makes the file larger, and drops
weights where the number of inputs is not a multiple of four. It also knows one
layout only, rows along the last axis: a kernel of 3x3x3x16 then spends more on
row starts than on weights. The encoded file has the structure of the
converter's own: a sparse constant and one DENSIFY, which the runtime executes
once, when it loads the file.
"""

from __future__ import annotations

from scl_keras.export.flat_model import BUILTIN, Filter, FlatModel
from scl_keras.export.sparse_format import best_layout, compress_rows

# What a second tensor, its sparsity record and the DENSIFY take in a file.
_OVERHEAD_BYTES = 320


def encode_csr(file: bytes) -> bytes:
    """Encodes every kernel as CSR that becomes smaller by it.

    Args:
        file: The bytes of a TFLite file. Kernels may be float32, or of any type that
            is converted to float32 when the file is loaded.

    Returns:
        The bytes of the file with encoded kernels. It computes the same.
    """
    flat = FlatModel(file)
    for kernel in flat.filters():
        densify_rows(flat, kernel)
    return flat.to_bytes()


def densify_rows(flat: FlatModel, kernel: Filter) -> None:
    """Replaces a constant by a sparse constant and its DENSIFY, if that is smaller."""
    dense = kernel.tensor
    values = flat.constant(dense)
    layout = best_layout(values)
    if layout.bytes + _OVERHEAD_BYTES >= values.nbytes:
        return
    sparsity, kept = compress_rows(values, layout)
    position = flat.add_tensor(kernel.graph, dense, "/csr", sparsity=sparsity)
    flat.store(kernel.graph.tensors[position], kept)
    dense.buffer = 0  # the tensor is computed now
    densify = flat.make_operator(
        BUILTIN.DENSIFY, [position], kernel.position, "Densify"
    )
    kernel.graph.operators.insert(0, densify)
