"""Tables of embeddings: GATHER looks up rows of a constant.

GATHER reads a table that DENSIFY has unpacked as well as a constant one, of float32,
float16 and int8, with and without the default delegate. But a DEQUANTIZE between the
two makes it garbage with the delegate, which leaves the DENSIFY out. So a rounded table
is looked up as it is stored, and the rows found are converted: as fast, and without a
float32 copy of the table in memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scl_keras.export.flat_model import BUILTIN, FlatModel, Kernel

# The lowest versions that read int8 and float16.
_GATHER_VERSION, _DEQUANTIZE_VERSION = 2, 3


def tables(flat: FlatModel) -> list[Kernel]:
    """Returns the dense constants that only GATHER reads, as what it looks up in.

    Args:
        flat: A TFLite file.
    """
    found = []
    for graph in flat.model.subgraphs:
        for position, tensor in enumerate(graph.tensors):
            values = flat.constant(tensor)
            if values is None or values.ndim < 2:
                continue
            if _are_lookups(flat, flat.readers(graph, position), position):
                found.append(Kernel(graph, position, values))
    return found


def convert_rows(flat: FlatModel) -> None:
    """Has rows converted to float32 instead of whole tables.

    Args:
        flat: A TFLite file, which is changed.
    """
    for graph, operator in list(flat.operators()):
        if flat.kind(operator) != BUILTIN.DEQUANTIZE:
            continue
        source, table = int(operator.inputs[0]), int(operator.outputs[0])
        scale = _scales(graph.tensors[source])
        readers = flat.readers(graph, table)
        if flat.constant(graph.tensors[source]) is None or table in graph.outputs:
            continue
        if scale <= 1 and _are_lookups(flat, readers, table):
            graph.operators.remove(operator)
            _look_up(flat, graph, readers, source)


def store_tables_as_int8(flat: FlatModel) -> None:
    """Rounds every float32 table to int8, symmetric, with one scale.

    A scale a row would take more bytes than a sparse row does.

    Args:
        flat: A TFLite file, which is changed.
    """
    for table in tables(flat):
        if table.tensor.type != schema.TensorType.FLOAT32:
            continue
        scale = np.float32(np.abs(table.values).max(initial=0) / 127) or np.float32(1)
        parameters = schema.QuantizationParametersT()
        parameters.scale = np.array([scale], np.float32)
        parameters.zeroPoint = np.zeros(1, np.int64)
        source = flat.add_tensor(
            table.graph,
            table.tensor,
            "/int8",
            type=schema.TensorType.INT8,
            quantization=parameters,
        )
        rounded = np.clip(np.round(table.values / scale), -127, 127).astype(np.int8)
        flat.store(table.graph.tensors[source], rounded)
        readers = flat.readers(table.graph, table.position)
        _look_up(flat, table.graph, readers, source)


def _look_up(
    flat: FlatModel, graph: schema.SubGraphT, readers: list[Any], source: int
) -> None:
    """Has each GATHER read a rounded table, and a DEQUANTIZE what it finds."""
    stored = graph.tensors[source]
    for gather in readers:
        rows = int(gather.outputs[0])
        rounded = flat.add_tensor(
            graph,
            graph.tensors[rows],
            "/rounded",
            type=stored.type,
            quantization=stored.quantization,
        )
        gather.inputs = np.array([source, *gather.inputs[1:]], np.int32)
        gather.outputs = np.array([rounded], np.int32)
        gather.opcodeIndex = flat.opcode(BUILTIN.GATHER, _GATHER_VERSION)
        convert = flat.make_operator(
            BUILTIN.DEQUANTIZE, [rounded], rows, "Dequantize", _DEQUANTIZE_VERSION
        )
        graph.operators.insert(graph.operators.index(gather) + 1, convert)


def _are_lookups(flat: FlatModel, readers: list[Any], position: int) -> bool:
    return bool(readers) and all(
        flat.kind(reader) == BUILTIN.GATHER
        and list(reader.inputs).index(position) == 0
        and int(reader.inputs[1]) != position
        for reader in readers
    )


def _scales(tensor: schema.TensorT) -> int:
    quantization = tensor.quantization
    if quantization is None or quantization.scale is None:
        return 0
    return len(quantization.scale)
