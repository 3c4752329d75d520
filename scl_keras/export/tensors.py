"""Read the weights of a TFLite file, in whatever form they are encoded."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scl_keras.export.flat_model import DTYPES, FlatModel


@dataclasses.dataclass(frozen=True)
class Weights:
    """A constant of rank two or more (a kernel) as a file holds it.

    Attributes:
        name: The converter's name for it.
        values: The decoded array as it is stored, zeros included: float32, float16 or
            int8.
        scale: What int8 values are to be multiplied with, in a shape that broadcasts.
        encoding: "dense", "csr", "csr axis 0", "block 1x4", ...
        bytes: Size in the file, values and indices.
    """

    name: str
    values: np.ndarray
    scale: np.ndarray | float
    encoding: str
    bytes: int

    @property
    def nonzero(self) -> int:
        """Number of connections kept."""
        return int(np.count_nonzero(self.values))

    @property
    def bitmap_bytes(self) -> int:
        """The bitmap limit: a value a non-zero and one bit a weight.

        Never more than the dense array itself.
        """
        bitmap = self.nonzero * self.values.itemsize + math.ceil(self.values.size / 8)
        return min(bitmap, self.values.nbytes)

    def real_values(self) -> np.ndarray:
        """The weights as the file means them."""
        return self.values.astype(np.float32) * self.scale


def read_weights(file: bytes) -> list[Weights]:
    """Decodes every constant of rank two or more that holds weights.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The weights, in the order of the file.

    Raises:
        ValueError: If an encoding contradicts itself or the tensor's shape.
    """
    flat = FlatModel(file)
    return [
        _read(tensor, flat.model.buffers[tensor.buffer].data)
        for graph in flat.model.subgraphs
        for tensor in graph.tensors
        if tensor.sparsity is not None or _is_kernel(flat, tensor)
    ]


def _is_kernel(flat: FlatModel, tensor: schema.TensorT) -> bool:
    values = flat.constant(tensor)
    return values is not None and values.ndim >= 2


def _read(tensor: schema.TensorT, data: np.ndarray | None) -> Weights:
    name = tensor.name.decode()
    if tensor.type not in DTYPES:
        raise ValueError(f"{name!r} is sparse, and of a type that isn't read here")
    # The converter stores a kernel without a non-zero as no data at all.
    stored = np.frombuffer(b"" if data is None else bytes(data), DTYPES[tensor.type])
    shape = tuple(int(size) for size in tensor.shape)
    scale = _scale(tensor.quantization, len(shape))
    if tensor.sparsity is None:
        return Weights(name, stored.reshape(shape), scale, "dense", stored.nbytes)
    try:
        values = _decode(tensor.sparsity, shape, stored)
    except (IndexError, ValueError) as error:
        raise ValueError(f"{name!r} of shape {shape} cannot be read: {error}") from None
    index_bytes = sum(
        np.asarray(vector.values).size * _WIDTHS[kind]
        for level in tensor.sparsity.dimMetadata
        for kind, vector in (
            (level.arraySegmentsType, level.arraySegments),
            (level.arrayIndicesType, level.arrayIndices),
        )
        if vector is not None and vector.values is not None
    )
    encoding = _describe(tensor.sparsity, len(shape))
    return Weights(name, values, scale, encoding, stored.nbytes + index_bytes)


def _scale(quantization, rank: int) -> np.ndarray | float:
    if quantization is None or quantization.scale is None:
        return 1.0
    scale = np.asarray(quantization.scale, np.float32)
    if not scale.size:
        return 1.0
    shape = [1] * rank
    if scale.size > 1:
        shape[quantization.quantizedDimension] = -1
    return scale.reshape(shape)


_WIDTHS = {
    schema.SparseIndexVector.Int32Vector: 4,
    schema.SparseIndexVector.Uint16Vector: 2,
    schema.SparseIndexVector.Uint8Vector: 1,
}


def _decode(
    sparsity: schema.SparsityParametersT, shape: tuple[int, ...], stored: np.ndarray
) -> np.ndarray:
    """Expands a tensor level by level, as the schema defines it.

    Levels come in traversal order: first the axes (in blocks where an axis is
    blocked), then the positions inside a block.
    """
    order = [int(axis) for axis in sparsity.traversalOrder]
    levels: list[np.ndarray] = []
    for metadata in sparsity.dimMetadata:
        count = len(levels[0]) if levels else 1
        if metadata.format == schema.DimensionType.DENSE:
            size = int(metadata.denseSize)
            repeats, level = size, np.tile(np.arange(size), count)
        else:
            repeats = np.diff(np.asarray(metadata.arraySegments.values, np.int64))
            level = _values(metadata.arrayIndices)
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


def _values(vector) -> np.ndarray:
    # The reader gives None for a vector without entries.
    if vector is None or vector.values is None:
        return np.zeros(0, np.int64)
    return np.asarray(vector.values, np.int64)


def _block_map(sparsity: schema.SparsityParametersT) -> list[int]:
    return (
        [] if sparsity.blockMap is None else [int(axis) for axis in sparsity.blockMap]
    )


def _describe(sparsity: schema.SparsityParametersT, rank: int) -> str:
    blocks = _block_map(sparsity)
    order = [int(axis) for axis in sparsity.traversalOrder]
    if blocks:
        sizes = [1] * rank
        for block, axis in enumerate(blocks):
            metadata = sparsity.dimMetadata[order.index(rank + block)]
            sizes[axis] = int(metadata.denseSize)
        return "block " + "x".join(map(str, sizes))
    return "csr" if order[-1] == rank - 1 else f"csr axis {order[-1]}"
