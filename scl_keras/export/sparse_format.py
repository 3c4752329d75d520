"""The sparse tensors of TFLite's schema: rows and blocks, written and read.

A sparse tensor has one record for each of its levels. The record of a dense level tells
its size. That of a compressed level tells where each row starts ("segments"), and the
positions of the entries that are kept ("indices"). See `SparsityParameters` in TFLite's
schema, which has it from the Tensor Algebra Compiler (Kjolstad et al., OOPSLA 2017).

What is written is a small part of the format. What is read is all of it, for the
converter's files are decoded here as well.
"""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

BLOCK = 4  # the one width for which the runtime has a float32 routine


@dataclasses.dataclass(frozen=True)
class Layout:
    """How to compress a kernel, and what that takes.

    Attributes:
        axis: The axis along which rows are compressed.
        index_dtype: NumPy type of the positions within a row.
        segment_dtype: NumPy type of the starts of the rows.
        bytes: Size of values, positions and starts.
    """

    axis: int
    index_dtype: type
    segment_dtype: type
    bytes: int


def row_layout(kernel: np.ndarray, axis: int) -> Layout:
    """Returns the layout with rows along one axis."""
    nonzero = max(int(np.count_nonzero(kernel)), 1)
    size = kernel.shape[axis]
    index, segment = _smallest_dtype(size - 1), _smallest_dtype(nonzero)
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
    """Returns the record of a kernel's rows, and the values that are kept."""
    axes = [axis for axis in range(kernel.ndim) if axis != layout.axis]
    rows = np.moveaxis(kernel, layout.axis, -1).reshape(-1, kernel.shape[layout.axis])
    kept = _at_least_one(rows != 0)
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = np.array([*axes, layout.axis], np.int32)
    sparsity.dimMetadata = [_dense_level(kernel.shape[axis]) for axis in axes]
    sparsity.dimMetadata.append(
        _compressed_level(kept, layout.index_dtype, layout.segment_dtype)
    )
    return sparsity, rows[kept]


def compress_blocks(
    kernel: np.ndarray,
) -> tuple[schema.SparsityParametersT, np.ndarray]:
    """Returns the record of a matrix's 1x4 blocks, and the values of those kept.

    Args:
        kernel: Matrix of shape `(outputs, inputs)`. `inputs` must be a multiple of
            four: of others the runtime makes something wrong.
    """
    blocks = kernel.reshape(len(kernel), -1, BLOCK)
    kept = _at_least_one((blocks != 0).any(axis=-1))
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = np.array([0, 1, 2], np.int32)
    sparsity.blockMap = np.array([1], np.int32)
    index = _smallest_dtype(kept.shape[1] - 1)
    segment = _smallest_dtype(int(kept.sum()))
    sparsity.dimMetadata = [
        _dense_level(len(kernel)),
        _compressed_level(kept, index, segment),
        _dense_level(BLOCK),
    ]
    return sparsity, blocks[kept].ravel()


def pad_to_blocks(kernel: np.ndarray) -> np.ndarray:
    """Returns a matrix with columns of zeros up to a multiple of four."""
    return np.pad(kernel, ((0, 0), (0, -kernel.shape[1] % BLOCK)))


def count_blocks(kernel: np.ndarray) -> int:
    """Returns how many 1x4 blocks of a matrix aren't all zero."""
    blocks = pad_to_blocks(kernel).reshape(len(kernel), -1, BLOCK)
    return int((blocks != 0).any(axis=-1).sum())


def expand(
    sparsity: schema.SparsityParametersT, shape: tuple[int, ...], stored: np.ndarray
) -> np.ndarray:
    """Returns the dense array of a sparse tensor, as the schema defines it.

    Levels come in traversal order: first the axes (in blocks where an axis is
    blocked), then the positions inside of a block.

    Args:
        sparsity: The records of the tensor.
        shape: Shape of the tensor.
        stored: The values that are kept.

    Raises:
        IndexError: If a position lies outside of the shape.
        ValueError: If the records contradict each other, the shape or the values.
    """
    order = [int(axis) for axis in sparsity.traversalOrder]
    levels: list[np.ndarray] = []
    for metadata in sparsity.dimMetadata:
        count = len(levels[0]) if levels else 1
        if metadata.format == schema.DimensionType.DENSE:
            size = int(metadata.denseSize)
            repeats, level = np.array(size), np.tile(np.arange(size), count)
        else:
            repeats = np.diff(np.asarray(metadata.arraySegments.values, np.int64))
            level = _indices(metadata.arrayIndices)
        levels = [np.repeat(done, repeats) for done in levels] + [level]
    if len(levels[0]) != len(stored):
        raise ValueError(f"{len(levels[0])} positions for {len(stored)} values")
    position = dict(zip(order, levels, strict=True))
    index = [position[axis] for axis in range(len(shape))]
    for block, axis in enumerate(_block_map(sparsity)):
        inside = len(shape) + block
        size = int(sparsity.dimMetadata[order.index(inside)].denseSize)
        if shape[axis] % size:
            raise ValueError(
                f"blocks of {size} do not divide the {shape[axis]} entries of axis "
                f"{axis}, so the last ones are lost"
            )
        index[axis] = index[axis] * size + position[inside]
    values = np.zeros(shape, stored.dtype)
    values[tuple(index)] = stored
    return values


def index_bytes(sparsity: schema.SparsityParametersT) -> int:
    """Returns the size of all segments and indices."""
    return sum(
        np.asarray(vector.values).size * _ITEM_BYTES[kind]
        for level in sparsity.dimMetadata
        for kind, vector in (
            (level.arraySegmentsType, level.arraySegments),
            (level.arrayIndicesType, level.arrayIndices),
        )
        if vector is not None and vector.values is not None
    )


def encoding_name(sparsity: schema.SparsityParametersT, rank: int) -> str:
    """Returns "csr" (rows along the last axis), "csr axis 0", ..., "block 1x4"."""
    blocks = _block_map(sparsity)
    order = [int(axis) for axis in sparsity.traversalOrder]
    if blocks:
        sizes = [1] * rank
        for block, axis in enumerate(blocks):
            metadata = sparsity.dimMetadata[order.index(rank + block)]
            sizes[axis] = int(metadata.denseSize)
        return "block " + "x".join(map(str, sizes))
    return "csr" if order[-1] == rank - 1 else f"csr axis {order[-1]}"


def _at_least_one(kept: np.ndarray) -> np.ndarray:
    if not kept.any():
        # A constant without a single byte counts as no constant at all.
        kept[0, 0] = True
    return kept


def _smallest_dtype(largest: int) -> type:
    for dtype in (np.uint8, np.uint16):
        if largest <= np.iinfo(dtype).max:
            return dtype
    return np.int32


def _dense_level(size: int) -> schema.DimensionMetadataT:
    level = schema.DimensionMetadataT()
    level.format = schema.DimensionType.DENSE
    level.denseSize = size
    return level


def _compressed_level(
    kept: np.ndarray, index_dtype: type, segment_dtype: type
) -> schema.DimensionMetadataT:
    segments = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])
    level = schema.DimensionMetadataT()
    level.format = schema.DimensionType.SPARSE_CSR
    level.arraySegmentsType, level.arraySegments = _vector(segments, segment_dtype)
    level.arrayIndicesType, level.arrayIndices = _vector(kept.nonzero()[1], index_dtype)
    return level


_VECTORS: dict[Any, Any] = {
    np.uint8: (schema.SparseIndexVector.Uint8Vector, schema.Uint8VectorT),
    np.uint16: (schema.SparseIndexVector.Uint16Vector, schema.Uint16VectorT),
    np.int32: (schema.SparseIndexVector.Int32Vector, schema.Int32VectorT),
}

_ITEM_BYTES = {kind: np.dtype(dtype).itemsize for dtype, (kind, _) in _VECTORS.items()}


def _vector(values: np.ndarray, dtype: type) -> tuple[int, object]:
    kind, table = _VECTORS[dtype]
    vector = table()
    vector.values = values.astype(dtype)
    return kind, vector


def _indices(vector) -> np.ndarray:
    # The reader gives None for a vector without entries.
    if vector is None or vector.values is None:
        return np.zeros(0, np.int64)
    return np.asarray(vector.values, np.int64)


def _block_map(sparsity: schema.SparsityParametersT) -> list[int]:
    return [] if sparsity.blockMap is None else list(map(int, sparsity.blockMap))
