"""The sparse tensors of TFLite's schema: compressed rows and blocks.

A sparse tensor has one record a level: a dense level tells its size, a compressed one
where each row starts ("segments") and the positions of what is there ("indices"). See
`SparsityParameters` in TFLite's schema, which has it from the Tensor Algebra Compiler
(Kjolstad et al., OOPSLA 2017).
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

BLOCK = 4  # the one width that the runtime has a float32 kernel for


@dataclasses.dataclass(frozen=True)
class Layout:
    """How to store a kernel: the sparse axis, and the integers it takes."""

    axis: int
    index_dtype: type
    segment_dtype: type
    bytes: int


def row_layout(kernel: np.ndarray, axis: int) -> Layout:
    """The layout with rows along one axis."""
    nonzero = max(int(np.count_nonzero(kernel)), 1)
    size = kernel.shape[axis]
    index, segment = _smallest(size - 1), _smallest(nonzero)
    rows = math.prod(kernel.shape) // size
    total = nonzero * (kernel.itemsize + np.dtype(index).itemsize)
    total += (rows + 1) * np.dtype(segment).itemsize
    return Layout(axis, index, segment, total)


def best_layout(kernel: np.ndarray) -> Layout:
    """Returns the layout that takes the fewest bytes for a kernel.

    A short sparse axis has small indices, a long one has few rows.
    """
    layouts = [row_layout(kernel, axis) for axis in range(kernel.ndim)]
    # Of equal ones the last axis, which is the converter's own form.
    return min(reversed(layouts), key=lambda layout: layout.bytes)


def compress_rows(
    kernel: np.ndarray, layout: Layout
) -> tuple[schema.SparsityParametersT, np.ndarray]:
    """Returns the record of a kernel's rows, and the values kept."""
    axes = [axis for axis in range(kernel.ndim) if axis != layout.axis]
    rows = np.moveaxis(kernel, layout.axis, -1).reshape(-1, kernel.shape[layout.axis])
    kept = _something(rows != 0)
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = np.array([*axes, layout.axis], np.int32)
    sparsity.dimMetadata = [_dense_level(kernel.shape[axis]) for axis in axes]
    sparsity.dimMetadata.append(
        _sparse_level(kept, layout.index_dtype, layout.segment_dtype)
    )
    return sparsity, rows[kept]


def compress_blocks(
    kernel: np.ndarray,
) -> tuple[schema.SparsityParametersT, np.ndarray]:
    """Returns the record of a matrix's 1x4 blocks, and the values of those kept.

    Args:
        kernel: Matrix of shape `(outputs, inputs)`, `inputs` a multiple of four: what
            the runtime makes of others is wrong.
    """
    blocks = kernel.reshape(len(kernel), -1, BLOCK)
    kept = _something((blocks != 0).any(axis=-1))
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = np.array([0, 1, 2], np.int32)
    sparsity.blockMap = np.array([1], np.int32)
    index, segment = _smallest(kept.shape[1] - 1), _smallest(int(kept.sum()))
    sparsity.dimMetadata = [
        _dense_level(len(kernel)),
        _sparse_level(kept, index, segment),
        _dense_level(BLOCK),
    ]
    return sparsity, blocks[kept].ravel()


def pad_to_blocks(kernel: np.ndarray) -> np.ndarray:
    """Returns a matrix with columns of zeros up to a multiple of four."""
    return np.pad(kernel, ((0, 0), (0, -kernel.shape[1] % BLOCK)))


def count_blocks(kernel: np.ndarray) -> int:
    """How many 1x4 blocks of a matrix hold anything."""
    blocks = pad_to_blocks(kernel).reshape(len(kernel), -1, BLOCK)
    return int((blocks != 0).any(axis=-1).sum())


def _something(kept: np.ndarray) -> np.ndarray:
    if not kept.any():
        # A constant without a single byte counts as no constant at all.
        kept[0, 0] = True
    return kept


def _smallest(largest: int) -> type:
    for dtype in (np.uint8, np.uint16):
        if largest <= np.iinfo(dtype).max:
            return dtype
    return np.int32


def _dense_level(size: int) -> schema.DimensionMetadataT:
    level = schema.DimensionMetadataT()
    level.format = schema.DimensionType.DENSE
    level.denseSize = size
    return level


def _sparse_level(
    kept: np.ndarray, index_dtype: type, segment_dtype: type
) -> schema.DimensionMetadataT:
    segments = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    level = schema.DimensionMetadataT()
    level.format = schema.DimensionType.SPARSE_CSR
    level.arraySegmentsType, level.arraySegments = _vector(segments, segment_dtype)
    level.arrayIndicesType, level.arrayIndices = _vector(kept.nonzero()[1], index_dtype)
    return level


_VECTORS = {
    np.uint8: (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
    np.uint16: (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
    np.int32: (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
}


def _vector(values: np.ndarray, dtype: type):
    kind, table = _VECTORS[dtype]
    vector = table()
    vector.values = values.astype(dtype)
    return kind, vector
