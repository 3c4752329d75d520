"""The encodings that a file's kernels may have.

A new one is a new entry of `ENCODINGS`: a function from the bytes of a dense file to
the bytes of an encoded one. Nothing it does has to be trusted, for every file is
decoded, run and compared before it can be chosen.

"csr" leaves unpacking to the runtime. Why not leave encoding to the converter as well
(`EXPERIMENTAL_SPARSITY`): from about 97 % of zeros it takes blocks of four for a
`Dense` kernel, which makes the file larger, and drops weights where the number of
inputs is not a multiple of four. It also knows one layout only, rows along the last
axis: a kernel of 3x3x3x16 then spends more on row starts than on weights. The encoded
file has the structure of the converter's own: a sparse constant and one DENSIFY, which
the runtime executes once, when it loads the file.

"rows", "blocks" and "mixed" let FULLY_CONNECTED read the sparse tensor itself. The
runtime has two routines for that, both for float32: one for compressed rows, and one
for blocks of 1x4, that is of four inputs. The default delegate leaves such layers to
them. Their time is spent on entries or on blocks, not on weights. What an entry and a
block take decides here which layers are worth a try. Whether the file is worth it is
decided by measuring.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scl_keras.export.flat_model import BUILTIN, FlatModel, Kernel
from scl_keras.export.sparse_format import (
    BLOCK,
    best_layout,
    compress_blocks,
    compress_rows,
    count_blocks,
    pad_to_blocks,
    row_layout,
)
from scl_keras.export.tables import convert_rows, tables

# What a second tensor, its sparsity record and the DENSIFY take in a file.
_DENSIFY_BYTES = 320

_SPARSE_VERSION = 8  # of FULLY_CONNECTED, from which on it reads sparse tensors

# Densities up to which a sparse routine may beat the dense one. Generous: what turns
# out slow is not chosen.
_ROWS_DENSITY, _BLOCKS_DENSITY = 0.15, 0.5

# Kernels this small are made sparse if a large one is: to start the delegate for one
# such layer takes longer than to compute it.
_SMALL = 4096

# Dense layers with less than this share of the weights have an even smaller share of
# the time, for convolutions use theirs often: no routine makes such a network faster.
_SHARE = 0.05

# Non-zeros a block holds on average, from which on blocks are faster than rows.
_FULL_BLOCK = 1.3


class Form(enum.Enum):
    """What a dense layer reads."""

    ROWS = "rows"
    BLOCKS = "blocks"


_ChooseForm = Callable[[np.ndarray], Form]


def encode_csr(file: bytes) -> bytes:
    """Encodes every kernel and table of embeddings as CSR that becomes smaller by it.

    Args:
        file: The bytes of a TFLite file. Kernels may be float32, or of any type that
            is converted to float32 when the file is loaded. Tables may be int8 as well.

    Returns:
        The bytes of the file with encoded kernels. It computes the same.
    """
    flat = FlatModel(file)
    _densify_at_load(flat)
    return flat.to_bytes()


def encode_rows(file: bytes) -> bytes:
    """Has sparse dense layers read compressed rows.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The bytes of the file. Kernels for which that can't pay are encoded as
        `encode_csr` does it.
    """
    return _encode_dense_layers(file, lambda kernel: Form.ROWS)


def encode_blocks(file: bytes) -> bytes:
    """Has sparse dense layers read blocks of 1x4.

    Where the number of inputs is no multiple of four, inputs and kernel get zeros: the
    runtime would compute something else.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The bytes of the file, as `encode_rows`.
    """
    return _encode_dense_layers(file, lambda kernel: Form.BLOCKS)


def encode_mixed(file: bytes) -> bytes:
    """Has each sparse dense layer read rows or blocks, whichever should be faster.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The bytes of the file, as `encode_rows`.
    """
    return _encode_dense_layers(file, _faster_form)


ENCODINGS: dict[str, Callable[[bytes], bytes]] = {
    "dense": lambda file: file,
    "csr": encode_csr,
    "rows": encode_rows,
    "blocks": encode_blocks,
    "mixed": encode_mixed,
}


def _densify_at_load(flat: FlatModel) -> None:
    """Replaces constants by a sparse one and its DENSIFY, where that is smaller."""
    convert_rows(flat)
    for kernel in [*flat.kernels(), *tables(flat)]:
        dense = kernel.tensor
        values = kernel.values
        layout = best_layout(values)
        if layout.bytes + _DENSIFY_BYTES >= values.nbytes:
            continue
        sparsity, kept = compress_rows(values, layout)
        position = flat.add_tensor(kernel.graph, dense, "/csr", sparsity=sparsity)
        flat.store(kernel.graph.tensors[position], kept)
        dense.buffer = 0  # the tensor is computed now
        densify = flat.make_operator(
            BUILTIN.DENSIFY, [position], kernel.position, "Densify"
        )
        kernel.graph.operators.insert(0, densify)


def _encode_dense_layers(file: bytes, choose_form: _ChooseForm) -> bytes:
    flat = FlatModel(file)
    for kernel in _worthwhile(flat, choose_form):
        if choose_form(kernel.values) is Form.ROWS:
            _store_rows(flat, kernel)
        else:
            _store_blocks(flat, kernel)
        for operator in flat.readers(kernel.graph, kernel.position):
            operator.opcodeIndex = flat.opcode(BUILTIN.FULLY_CONNECTED, _SPARSE_VERSION)
    _densify_at_load(flat)  # what is still dense
    return flat.to_bytes()


def _faster_form(kernel: np.ndarray) -> Form:
    filled = np.count_nonzero(kernel) >= _FULL_BLOCK * count_blocks(kernel)
    return Form.BLOCKS if filled else Form.ROWS


def _worthwhile(flat: FlatModel, choose_form: _ChooseForm) -> list[Kernel]:
    """Returns the kernels for which a sparse routine is worth a try."""
    able = [kernel for kernel in flat.kernels() if _is_able(flat, kernel, choose_form)]
    pays = [_may_pay(k.values, choose_form(k.values)) for k in able]
    small = [k.values.size <= _SMALL for k in able]
    large_ones = any(p and not s for p, s in zip(pays, small, strict=True))
    gained = sum(k.values.size for k, p in zip(able, pays, strict=True) if p)
    if gained < _SHARE * sum(k.values.size for k in flat.kernels()):
        return []
    return [
        kernel
        for kernel, p, s in zip(able, pays, small, strict=True)
        if p or (s and large_ones)
    ]


def _may_pay(values: np.ndarray, form: Form) -> bool:
    if form is Form.ROWS:
        return bool(np.count_nonzero(values) <= _ROWS_DENSITY * values.size)
    return BLOCK * count_blocks(values) <= _BLOCKS_DENSITY * values.size


def _is_able(flat: FlatModel, kernel: Kernel, choose_form: _ChooseForm) -> bool:
    """Whether only dense layers read a kernel, of inputs that fit."""
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
    if choose_form(kernel.values) is Form.ROWS:
        return True
    # The routine for blocks needs the inputs on the last axis.
    return all(
        _has_width(graph.tensors[reader.inputs[0]], kernel.values.shape[1])
        or not reader.builtinOptions.keepNumDims
        for reader in readers
    )


def _has_width(tensor: schema.TensorT, width: int) -> bool:
    shape = tensor.shape if tensor.shapeSignature is None else tensor.shapeSignature
    return shape is not None and len(shape) > 0 and shape[-1] == width


def _store_rows(flat: FlatModel, kernel: Kernel) -> None:
    # The routine reads rows of inputs, even where another layout were smaller.
    layout = row_layout(kernel.values, 1)
    kernel.tensor.sparsity, kept = compress_rows(kernel.values, layout)
    flat.store(kernel.tensor, kept)


def _store_blocks(flat: FlatModel, kernel: Kernel) -> None:
    padded = pad_to_blocks(kernel.values)
    inputs = kernel.values.shape[1]
    missing = padded.shape[1] - inputs
    for reader in flat.readers(kernel.graph, kernel.position):
        if not _has_width(kernel.graph.tensors[reader.inputs[0]], inputs):
            _flatten_input(flat, kernel.graph, reader, inputs)
        if missing:
            _pad_input(flat, kernel.graph, reader, missing)
    kernel.tensor.shape = np.array(padded.shape, np.int32)
    kernel.tensor.sparsity, kept = compress_blocks(padded)
    flat.store(kernel.tensor, kept)


def _flatten_input(
    flat: FlatModel, graph: schema.SubGraphT, reader: schema.OperatorT, width: int
) -> None:
    """Puts a RESHAPE to (batch, inputs) in front of a layer.

    A dense layer flattens what it reads. Yet where several threads share the samples
    of a batch, the routine for blocks takes the last axis for all of a sample.
    """
    position = int(reader.inputs[0])
    source = graph.tensors[position]
    batch = math.prod(map(int, source.shape)) // width
    changes: dict[str, np.ndarray] = {"shape": np.array([batch, width], np.int32)}
    if source.shapeSignature is not None:
        changes["shapeSignature"] = np.array([-1, width], np.int32)
    matrix = flat.add_tensor(graph, source, "/flat", **changes)
    _feed(flat, graph, reader, matrix, np.array([-1, width], np.int32), "Reshape")


def _pad_input(
    flat: FlatModel, graph: schema.SubGraphT, reader: schema.OperatorT, missing: int
) -> None:
    """Puts a PAD in front of a layer."""
    source = graph.tensors[reader.inputs[0]]
    changes = {"shape": _widened(source.shape, missing)}
    if source.shapeSignature is not None:
        changes["shapeSignature"] = _widened(source.shapeSignature, missing)
    wide = flat.add_tensor(graph, source, "/padded", **changes)
    rank = len(source.shape)
    paddings = np.zeros((rank, 2), np.int32)
    paddings[-1, 1] = missing
    _feed(flat, graph, reader, wide, paddings, "Pad")


def _feed(
    flat: FlatModel,
    graph: schema.SubGraphT,
    reader: schema.OperatorT,
    target: int,
    argument: np.ndarray,
    name: str,
) -> None:
    """Puts an operator with a constant argument between a layer and what it reads."""
    position = int(reader.inputs[0])
    constant = flat.add_tensor(
        graph,
        graph.tensors[position],
        f"/{name.lower()}",
        shape=np.array(argument.shape, np.int32),
        shapeSignature=None,
        type=schema.TensorType.INT32,
    )
    flat.store(graph.tensors[constant], argument)
    kind = getattr(BUILTIN, name.upper())
    operator = flat.make_operator(kind, [position, constant], target, name)
    reader.inputs = np.array([target, *reader.inputs[1:]], np.int32)
    graph.operators.insert(graph.operators.index(reader), operator)


def _widened(shape: np.ndarray, missing: int) -> np.ndarray:
    return np.array([*shape[:-1], shape[-1] + missing], np.int32)
