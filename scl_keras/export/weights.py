"""The weights that a TFLite file holds, in whatever form they are encoded."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scl_keras.export.flat_model import DTYPES, FlatModel
from scl_keras.export.sparse_format import encoding_name, expand, index_bytes


@dataclasses.dataclass(frozen=True)
class TensorEncoding:
    """How the file holds one constant of rank two or more.

    Attributes:
        name: The converter's name.
        shape: Shape in the file: a Dense kernel is (outputs, inputs), a
            convolution (outputs, height, width, inputs).
        sparsity: Share of zeros.
        encoding: "dense", "csr" (rows along the last axis), "csr axis 0", ...,
            "block 1x4".
        bytes: Size in the file, values and indices.
        dense_bytes: Size of the plain array.
        bitmap_bytes: The bitmap limit (see `Weights`).
    """

    name: str
    shape: tuple[int, ...]
    sparsity: float
    encoding: str
    bytes: int
    dense_bytes: int
    bitmap_bytes: int


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
    def sparsity(self) -> float:
        """Share of zeros."""
        return 1 - self.nonzero / self.values.size

    @property
    def bitmap_bytes(self) -> int:
        """The bitmap limit: one value for each non-zero, and one bit for each weight.

        Never more than the dense array itself.
        """
        bitmap = self.nonzero * self.values.itemsize + math.ceil(self.values.size / 8)
        return min(bitmap, self.values.nbytes)

    def real_values(self) -> np.ndarray:
        """Returns the weights that the stored values stand for."""
        return self.values.astype(np.float32) * self.scale

    def figures(self) -> TensorEncoding:
        """Returns what the report says of them."""
        return TensorEncoding(
            name=self.name,
            shape=self.values.shape,
            sparsity=self.sparsity,
            encoding=self.encoding,
            bytes=self.bytes,
            dense_bytes=self.values.nbytes,
            bitmap_bytes=self.bitmap_bytes,
        )


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


def wrong_encodings(flat: FlatModel) -> list[str]:
    """Finds what a file encodes wrong: such weights aren't those that went in.

    Args:
        flat: The objects of a file, of whatever converter.

    Returns:
        A sentence for each such tensor. Types that no weights have here are left out.
    """
    problems = []
    for graph in flat.model.subgraphs:
        for tensor in graph.tensors:
            if tensor.sparsity is not None and tensor.type in DTYPES:
                try:
                    _read(tensor, flat.model.buffers[tensor.buffer].data)
                except ValueError as error:
                    problems.append(str(error))
    return problems


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
        values = expand(tensor.sparsity, shape, stored)
    except (IndexError, ValueError) as error:
        raise ValueError(f"{name!r} of shape {shape} cannot be read: {error}") from None
    encoding = encoding_name(tensor.sparsity, len(shape))
    size = stored.nbytes + index_bytes(tensor.sparsity)
    return Weights(name, values, scale, encoding, size)


def _scale(
    quantization: schema.QuantizationParametersT | None, rank: int
) -> np.ndarray | float:
    if quantization is None or quantization.scale is None:
        return 1.0
    scale = np.asarray(quantization.scale, np.float32)
    if not scale.size:
        return 1.0
    shape = [1] * rank
    if scale.size > 1:
        shape[quantization.quantizedDimension] = -1
    return scale.reshape(shape)
