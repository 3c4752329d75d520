"""Let FULLY_CONNECTED read a sparse tensor, instead of unpacking it at load.

The runtime has two kernels for it, both for float32 (op version 8): one for
compressed rows, and one for blocks of 1x4, that is of four inputs. The default delegate
leaves such layers to them. They take time for each entry or block, not for each weight;
what each takes decides here which layers are worth a try, and measuring decides whether
the file is.
"""

from __future__ import annotations

import enum
from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scl_keras.export.csr import densify_rows
from scl_keras.export.flat_model import BUILTIN, Filter, FlatModel
from scl_keras.export.sparse_format import (
    BLOCK,
    compress_blocks,
    compress_rows,
    count_blocks,
    pad_to_blocks,
    row_layout,
)

_VERSION = 8  # of FULLY_CONNECTED, from which on it reads sparse tensors

# Densities up to which a kernel may beat the dense one. Generous: what turns out slow
# is not chosen.
_ROWS_DENSITY, _BLOCKS_DENSITY = 0.15, 0.5

# Layers this small follow the large ones: to start the delegate for one of them takes
# longer than to compute it.
_SMALL = 4096

# Entries a block holds on average, from which on a block is faster than its entries.
_FULL_BLOCK = 1.3


class Form(enum.Enum):
    """What a kernel is stored as."""

    ROWS = "rows"
    BLOCKS = "blocks"


def encode_rows(file: bytes) -> bytes:
    """Has sparse dense layers read compressed rows.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The bytes of the file. Kernels for which that can't pay are encoded as
        `encode_csr` does it.
    """
    return _encode(file, lambda kernel: Form.ROWS)


def encode_blocks(file: bytes) -> bytes:
    """Has sparse dense layers read blocks of 1x4.

    Where the number of inputs is no multiple of four, inputs and kernel get zeros: the
    runtime would compute something else.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The bytes of the file, as `encode_rows`.
    """
    return _encode(file, lambda kernel: Form.BLOCKS)


def encode_mixed(file: bytes) -> bytes:
    """Has each sparse dense layer read rows or blocks, whichever should be faster.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The bytes of the file, as `encode_rows`.
    """
    return _encode(file, _faster)


def _faster(kernel: np.ndarray) -> Form:
    filled = np.count_nonzero(kernel) >= _FULL_BLOCK * count_blocks(kernel)
    return Form.BLOCKS if filled else Form.ROWS


def _encode(file: bytes, form: Callable[[np.ndarray], Form]) -> bytes:
    flat = FlatModel(file)
    for kernel in _worthwhile(flat, form):
        values = flat.constant(kernel.tensor)
        if form(values) is Form.ROWS:
            _store_rows(flat, kernel, values)
        else:
            _store_blocks(flat, kernel, values)
        for operator in flat.readers(kernel.graph, kernel.position):
            operator.opcodeIndex = flat.opcode(BUILTIN.FULLY_CONNECTED, _VERSION)
    for kernel in flat.filters():  # what is still dense
        densify_rows(flat, kernel)
    return flat.to_bytes()


def _worthwhile(flat: FlatModel, form) -> list[Filter]:
    """The filters for which a sparse kernel is worth a try."""
    able = [kernel for kernel in flat.filters() if _is_able(flat, kernel, form)]
    values = [flat.constant(kernel.tensor) for kernel in able]
    pays = [_may_pay(v, form) for v in values]
    small = [v.size <= _SMALL for v in values]
    large_ones = any(p and not s for p, s in zip(pays, small, strict=True))
    return [
        kernel
        for kernel, p, s in zip(able, pays, small, strict=True)
        if p or (s and large_ones)
    ]


def _may_pay(values: np.ndarray, form) -> bool:
    if form(values) is Form.ROWS:
        return np.count_nonzero(values) <= _ROWS_DENSITY * values.size
    return BLOCK * count_blocks(values) <= _BLOCKS_DENSITY * values.size


def _is_able(flat: FlatModel, kernel: Filter, form) -> bool:
    """Whether all that read a filter are dense layers, of inputs that fit."""
    tensor, graph = kernel.tensor, kernel.graph
    if tensor.type != schema.TensorType.FLOAT32 or len(tensor.shape) != 2:
        return False
    readers = flat.readers(graph, kernel.position)
    if any(
        flat.kind(reader) != BUILTIN.FULLY_CONNECTED
        or list(reader.inputs).index(kernel.position) != 1
        for reader in readers
    ):
        return False
    values = flat.constant(tensor)
    inputs = values.shape[1]
    if form(values) is Form.ROWS or inputs % BLOCK == 0:
        return True
    # To be padded, the inputs must be the last axis.
    return all(_width(graph.tensors[reader.inputs[0]]) == inputs for reader in readers)


def _width(tensor: schema.TensorT) -> int | None:
    return None if tensor.shape is None or not len(tensor.shape) else tensor.shape[-1]


def _store_rows(flat: FlatModel, kernel: Filter, values: np.ndarray) -> None:
    # The runtime reads rows of inputs, whatever other layout were smaller.
    kernel.tensor.sparsity, kept = compress_rows(values, row_layout(values, 1))
    flat.store(kernel.tensor, kept)


def _store_blocks(flat: FlatModel, kernel: Filter, values: np.ndarray) -> None:
    padded = pad_to_blocks(values)
    missing = padded.shape[1] - values.shape[1]
    if missing:
        kernel.tensor.shape = np.array(padded.shape, np.int32)
        for reader in flat.readers(kernel.graph, kernel.position):
            _pad_input(flat, kernel.graph, reader, missing)
    kernel.tensor.sparsity, kept = compress_blocks(padded)
    flat.store(kernel.tensor, kept)


def _pad_input(flat, graph, reader, missing: int) -> None:
    """Puts a PAD in front of a layer."""
    source = graph.tensors[reader.inputs[0]]
    changes = {"shape": _widened(source.shape, missing)}
    if source.shapeSignature is not None:
        changes["shapeSignature"] = _widened(source.shapeSignature, missing)
    wide = flat.add_tensor(graph, source, "/padded", **changes)
    rank = len(source.shape)
    paddings = np.zeros((rank, 2), np.int32)
    paddings[-1, 1] = missing
    amounts = flat.add_tensor(
        graph,
        source,
        "/paddings",
        shape=np.array([rank, 2], np.int32),
        shapeSignature=None,
        type=schema.TensorType.INT32,
    )
    flat.store(graph.tensors[amounts], paddings)
    pad = flat.make_operator(BUILTIN.PAD, [int(reader.inputs[0]), amounts], wide, "Pad")
    reader.inputs = np.array([wide, *reader.inputs[1:]], np.int32)
    graph.operators.insert(graph.operators.index(reader), pad)


def _widened(shape: np.ndarray, missing: int) -> np.ndarray:
    return np.array([*shape[:-1], shape[-1] + missing], np.int32)
