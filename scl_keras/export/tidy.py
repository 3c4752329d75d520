"""Remove what the converter leaves over for shapes that it could know.

Keras's `Flatten` and `Reshape` of a model with an open batch size become SHAPE,
STRIDED_SLICE, PACK and RESHAPE, computed at each call and outside of the delegate. With
one open size, RESHAPE finds it out by itself, and in front of FULLY_CONNECTED, which
flattens what it reads, it does nothing.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scl_keras.export.flat_model import BUILTIN, FlatModel


def tidy(file: bytes) -> bytes:
    """Gives each RESHAPE a constant shape where it is known, or leaves it out.

    Of the names that the converter joins for each tensor, the last one is kept.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The bytes of a file that computes the same.
    """
    flat = FlatModel(file)
    for graph, operator in list(flat.operators()):
        if flat.kind(operator) == BUILTIN.RESHAPE and len(operator.inputs) == 2:
            _fix_shape(flat, graph, operator)
            _flatten_in_dense_layer(flat, graph, operator)
    for graph in flat.model.subgraphs:
        _drop_unread(flat, graph)
        for tensor in graph.tensors:
            tensor.name = tensor.name.rpartition(b";")[2]
    return flat.to_bytes()


def _fix_shape(flat: FlatModel, graph, operator) -> None:
    shape = graph.tensors[operator.inputs[1]]
    output = graph.tensors[operator.outputs[0]]
    made = any(operator.inputs[1] in other.outputs for other in graph.operators)
    signature = output.shapeSignature
    if not made or signature is None or list(signature).count(-1) != 1:
        return
    if 0 in signature:
        return
    constant = flat.add_tensor(
        graph,
        shape,
        "/constant",
        shape=np.array([len(signature)], np.int32),
        shapeSignature=None,
        type=schema.TensorType.INT32,
    )
    flat.store(graph.tensors[constant], np.asarray(signature, np.int32))
    operator.inputs = np.array([operator.inputs[0], constant], np.int32)


def _flatten_in_dense_layer(flat: FlatModel, graph, operator) -> None:
    """Has dense layers read what a RESHAPE to (batch, inputs) reads."""
    position = int(operator.outputs[0])
    shape = graph.tensors[position].shape
    readers = flat.readers(graph, position)
    source = graph.tensors[operator.inputs[0]].shape
    if len(shape) != 2 or source is None or position in graph.outputs or not readers:
        return
    if np.prod(source[1:]) != shape[1]:  # batches would be merged or split
        return
    for reader in readers:
        if (
            flat.kind(reader) != BUILTIN.FULLY_CONNECTED
            or reader.builtinOptions.keepNumDims
            or list(reader.inputs).index(position) != 0
            or graph.tensors[reader.inputs[1]].shape[-1] != shape[1]
        ):
            return
    for reader in readers:
        reader.inputs = np.array([operator.inputs[0], *reader.inputs[1:]], np.int32)


def _drop_unread(flat: FlatModel, graph) -> None:
    """Removes what makes shapes that nobody reads."""
    kinds = {BUILTIN.SHAPE, BUILTIN.STRIDED_SLICE, BUILTIN.PACK, BUILTIN.RESHAPE}
    while True:
        read = {int(i) for o in graph.operators for i in o.inputs}
        read |= {int(i) for i in graph.outputs}
        kept = [
            operator
            for operator in graph.operators
            if flat.kind(operator) not in kinds
            or not read.isdisjoint(map(int, operator.outputs))
        ]
        if len(kept) == len(graph.operators):
            return
        graph.operators = kept
