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

import copy
import dataclasses
import math

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

from scl_keras.export.tensors import VALUE_BYTES, is_kernel

# Operators of which the runtime takes a densified filter (input 1) for a
# constant one. With others it would work too, but run slower.
_FILTERED = {
    schema.BuiltinOperator.CONV_2D,
    schema.BuiltinOperator.DEPTHWISE_CONV_2D,
    schema.BuiltinOperator.FULLY_CONNECTED,
    schema.BuiltinOperator.TRANSPOSE_CONV,
}

# What a second tensor, its sparsity record and the DENSIFY take in a file.
_OVERHEAD_BYTES = 320


def encode_csr(file: bytes) -> bytes:
    """Encodes every kernel as CSR that becomes smaller by it.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The bytes of the file with encoded kernels. It computes the same.
    """
    model = flatbuffer_utils.convert_bytearray_to_object(file)
    users = np.bincount([t.buffer for g in model.subgraphs for t in g.tensors])
    for graph in model.subgraphs:
        for position in _filters(graph, model):
            tensor = graph.tensors[position]
            data = bytes(model.buffers[tensor.buffer].data)
            kernel = np.frombuffer(data, "<f4").reshape(tensor.shape)
            layout = best_layout(kernel)
            if layout.bytes + _OVERHEAD_BYTES >= kernel.nbytes:
                continue
            if users[tensor.buffer] > 1:
                buffer = _append(model.buffers, schema.BufferT())
            else:
                buffer = tensor.buffer
            _encode(kernel, layout, graph, position, buffer, model)
    return bytes(flatbuffer_utils.convert_object_to_bytearray(model))


def _filters(graph: schema.SubGraphT, model: schema.ModelT) -> list[int]:
    """Returns the indices of the constant, dense filters of a graph."""
    found = []
    for operator in graph.operators:
        code = model.operatorCodes[operator.opcodeIndex].builtinCode
        if code not in _FILTERED:
            continue
        position = int(operator.inputs[1])
        tensor = graph.tensors[position]
        if is_kernel(tensor, model) and tensor.sparsity is None:
            found.append(position)
    return list(dict.fromkeys(found))  # a shared kernel once


@dataclasses.dataclass(frozen=True)
class Layout:
    """How to store a kernel: the sparse axis, and the integers it takes."""

    axis: int
    index_dtype: type
    segment_dtype: type
    bytes: int


def best_layout(kernel: np.ndarray) -> Layout:
    """Returns the layout that takes the fewest bytes for a kernel.

    A short sparse axis has small indices, a long one has few rows.
    """
    nonzero = max(int(np.count_nonzero(kernel)), 1)
    layouts = []
    for axis, size in enumerate(kernel.shape):
        index, segment = _smallest(size - 1), _smallest(nonzero)
        rows = math.prod(kernel.shape) // size
        total = nonzero * (VALUE_BYTES + np.dtype(index).itemsize)
        total += (rows + 1) * np.dtype(segment).itemsize
        layouts.append(Layout(axis, index, segment, total))
    # Of equal ones the last axis, which is the converter's own form.
    return min(reversed(layouts), key=lambda layout: layout.bytes)


def _smallest(largest: int) -> type:
    for dtype in (np.uint8, np.uint16):
        if largest <= np.iinfo(dtype).max:
            return dtype
    return np.int32


def _encode(kernel, layout, graph, position, buffer, model) -> None:
    """Replaces a constant by a sparse constant and its DENSIFY."""
    dense = graph.tensors[position]
    sparse = copy.copy(dense)
    sparse.name = dense.name + b"/csr"
    sparse.buffer = buffer
    sparse.sparsity, values = _sparsity(kernel, layout)
    model.buffers[buffer].data = np.frombuffer(values.tobytes(), np.uint8)
    dense.buffer = 0  # by definition the empty one: the tensor is computed now

    densify = schema.OperatorT()
    densify.opcodeIndex = _densify_code(model)
    densify.inputs = [_append(graph.tensors, sparse)]
    densify.outputs = [position]
    densify.builtinOptionsType = schema.BuiltinOptions.DensifyOptions
    densify.builtinOptions = schema.DensifyOptionsT()
    graph.operators.insert(0, densify)


def _sparsity(
    kernel: np.ndarray, layout: Layout
) -> tuple[schema.SparsityParametersT, np.ndarray]:
    axes = [axis for axis in range(kernel.ndim) if axis != layout.axis]
    rows = np.moveaxis(kernel, layout.axis, -1).reshape(-1, kernel.shape[layout.axis])
    kept = rows != 0
    if not kept.any():
        # A constant without a single byte counts as no constant at all.
        kept[0, 0] = True
    segments = np.concatenate([[0], np.cumsum(kept.sum(axis=1))])

    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder = np.array([*axes, layout.axis], np.int32)
    sparsity.dimMetadata = [_dense_level(kernel.shape[axis]) for axis in axes]
    level = schema.DimensionMetadataT()
    level.format = schema.DimensionType.SPARSE_CSR
    level.arraySegmentsType, level.arraySegments = _vector(
        segments, layout.segment_dtype
    )
    level.arrayIndicesType, level.arrayIndices = _vector(
        kept.nonzero()[1], layout.index_dtype
    )
    sparsity.dimMetadata.append(level)
    return sparsity, rows[kept]


def _dense_level(size: int) -> schema.DimensionMetadataT:
    level = schema.DimensionMetadataT()
    level.format = schema.DimensionType.DENSE
    level.denseSize = size
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


def _densify_code(model: schema.ModelT) -> int:
    densify = schema.BuiltinOperator.DENSIFY
    for index, code in enumerate(model.operatorCodes):
        if code.builtinCode == densify:
            return index
    code = schema.OperatorCodeT()
    code.builtinCode = densify
    code.deprecatedBuiltinCode = densify  # the field that old runtimes read
    code.version = 1
    return _append(model.operatorCodes, code)


def _append(items: list, item) -> int:
    items.append(item)
    return len(items) - 1
