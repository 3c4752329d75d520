"""A TFLite file as objects, and what it takes to rewrite one.

A TFLite file is a FlatBuffer: graphs of operators, which read and write tensors by
their index, and buffers with the values of constant tensors. The schema and its reader
come from LiteRT: TensorFlow has the same two modules, but only at paths outside of its
public API.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.tools import flatbuffer_utils

BUILTIN = schema.BuiltinOperator

# The types that weights have, in a file and in NumPy.
DTYPES: dict[int, np.dtype] = {
    schema.TensorType.FLOAT32: np.dtype("<f4"),
    schema.TensorType.FLOAT16: np.dtype("<f2"),
    schema.TensorType.INT8: np.dtype("i1"),
}

# Operators that read a kernel as input 1. They run as fast with a kernel that the
# runtime computes while it loads the file as with a constant one; other operators run
# slower.
_KERNEL_READERS = {
    BUILTIN.CONV_2D,
    BUILTIN.DEPTHWISE_CONV_2D,
    BUILTIN.FULLY_CONNECTED,
    BUILTIN.TRANSPOSE_CONV,
}


class Kernel(NamedTuple):
    """A dense constant that serves as kernel.

    Attributes:
        graph: The graph it is in.
        position: The index of its tensor there.
        values: What it holds.
    """

    graph: schema.SubGraphT
    position: int
    values: np.ndarray

    @property
    def tensor(self) -> schema.TensorT:
        """The tensor itself."""
        return self.graph.tensors[self.position]


class FlatModel:
    """The objects of a TFLite file.

    Args:
        file: The bytes of the file.

    Attributes:
        model: The root, as LiteRT's schema has it.
    """

    def __init__(self, file: bytes):
        self.model = flatbuffer_utils.convert_bytearray_to_object(file)
        for graph in self.model.subgraphs:  # the reader gives None for empty lists
            graph.operators = graph.operators or []
            for holder in (graph, *graph.operators):
                for field in ("inputs", "outputs"):
                    if getattr(holder, field) is None:
                        setattr(holder, field, np.zeros(0, np.int32))

    def to_bytes(self) -> bytes:
        """Returns the file, without what nothing refers to any more."""
        for graph in self.model.subgraphs:
            self._drop_unused_tensors(graph)
        self._drop_unused_opcodes()
        self._drop_unused_buffers()
        return bytes(flatbuffer_utils.convert_object_to_bytearray(self.model))

    def kind(self, operator: schema.OperatorT) -> int:
        """The builtin operator's number in the schema."""
        return self.model.operatorCodes[operator.opcodeIndex].builtinCode

    def operators(self) -> Iterator[tuple[schema.SubGraphT, schema.OperatorT]]:
        """All operators, each with its graph."""
        for graph in self.model.subgraphs:
            for operator in graph.operators:
                yield graph, operator

    def constant(self, tensor: schema.TensorT) -> np.ndarray | None:
        """A dense constant of one of `DTYPES`; None for every other tensor."""
        data = self.model.buffers[tensor.buffer].data
        if data is None or not len(data) or tensor.sparsity is not None:
            return None
        if tensor.type not in DTYPES or tensor.shape is None:
            return None
        return np.frombuffer(bytes(data), DTYPES[tensor.type]).reshape(tensor.shape)

    def kernels(self) -> list[Kernel]:
        """The dense kernels as they are stored, a shared one once.

        A kernel is the operator's own input. Where that is converted to float32 first,
        it is the constant in front of the conversion.
        """
        found = {}
        for graph, operator in self.operators():
            if self.kind(operator) not in _KERNEL_READERS:
                continue
            position = int(operator.inputs[1])
            if graph.tensors[position].type != schema.TensorType.FLOAT32:
                continue  # the default delegate does not load densified integers
            writer = self._writer(graph, position)
            if writer is not None and self.kind(writer) == BUILTIN.DEQUANTIZE:
                # XNNPACK does not always take these, and then leaves out a DENSIFY in
                # front of the DEQUANTIZE: such a kernel would be garbage.
                if self.kind(operator) == BUILTIN.TRANSPOSE_CONV:
                    continue
                position = int(writer.inputs[0])
            values = self.constant(graph.tensors[position])
            if values is not None and values.ndim >= 2:
                found[id(graph), position] = Kernel(graph, position, values)
        return list(found.values())

    def readers(self, graph: schema.SubGraphT, position: int) -> list[schema.OperatorT]:
        """The operators that read a tensor."""
        return [o for o in graph.operators if position in o.inputs]

    def store(self, tensor: schema.TensorT, values: np.ndarray) -> None:
        """Gives a tensor a constant of its own."""
        buffer = schema.BufferT()
        buffer.data = np.frombuffer(values.tobytes(), np.uint8)
        tensor.buffer = _append(self.model.buffers, buffer)

    def add_tensor(
        self, graph: schema.SubGraphT, like: schema.TensorT, suffix: str, **changes: Any
    ) -> int:
        """Adds a tensor and returns its index.

        Args:
            graph: Where to add it.
            like: A tensor to copy but for its values: it is a constant after `store`,
                and must be computed otherwise.
            suffix: What its name has more than that of `like`.
            **changes: What else is different, by the names of the schema.
        """
        tensor = copy.copy(like)
        tensor.name = like.name + suffix.encode()
        tensor.buffer = 0  # by definition the empty one
        for key, value in changes.items():
            setattr(tensor, key, value)
        return _append(graph.tensors, tensor)

    def make_operator(
        self, kind: int, inputs: list[int], output: int, name: str, version: int = 1
    ) -> schema.OperatorT:
        """Returns an operator with default options, which is in no graph yet.

        Args:
            kind: The builtin operator's number in the schema.
            inputs: Indices of the tensors it reads.
            output: Index of the tensor it writes.
            name: What the schema calls its options, without "Options".
            version: The lowest version of the operator that will do.
        """
        operator = schema.OperatorT()
        operator.opcodeIndex = self.opcode(kind, version)
        operator.inputs = np.array(inputs, np.int32)
        operator.outputs = np.array([output], np.int32)
        operator.builtinOptionsType = getattr(schema.BuiltinOptions, f"{name}Options")
        operator.builtinOptions = getattr(schema, f"{name}OptionsT")()
        return operator

    def opcode(self, kind: int, version: int) -> int:
        """The index of an operator's code, added if need be."""
        for index, code in enumerate(self.model.operatorCodes):
            if code.builtinCode == kind and code.version >= version:
                return index
        code = schema.OperatorCodeT()
        code.builtinCode = kind
        code.deprecatedBuiltinCode = min(kind, 127)  # the field old runtimes read
        code.version = version
        return _append(self.model.operatorCodes, code)

    def _writer(
        self, graph: schema.SubGraphT, position: int
    ) -> schema.OperatorT | None:
        writers = (o for o in graph.operators if position in o.outputs)
        return next(writers, None)

    def _drop_unused_tensors(self, graph: schema.SubGraphT) -> None:
        used = {int(i) for i in (*graph.inputs, *graph.outputs)}
        for operator in graph.operators:
            used |= {int(i) for i in (*operator.inputs, *operator.outputs)}
            if operator.intermediates is not None:
                used |= {int(i) for i in operator.intermediates}
        maps = [
            entry
            for signature in self.model.signatureDefs or ()
            if self.model.subgraphs[signature.subgraphIndex] is graph
            for entry in (*(signature.inputs or ()), *(signature.outputs or ()))
        ]
        kept = sorted((used | {entry.tensorIndex for entry in maps}) - {-1})
        moved = {old: new for new, old in enumerate(kept)}
        moved[-1] = -1  # an optional input that is left out
        graph.tensors = [graph.tensors[old] for old in kept]
        for entry in maps:
            entry.tensorIndex = moved[entry.tensorIndex]
        for holder, fields in (
            (graph, ("inputs", "outputs")),
            *((o, ("inputs", "outputs", "intermediates")) for o in graph.operators),
        ):
            for field in fields:
                values = getattr(holder, field)
                if values is not None:
                    moved_values = [moved[int(old)] for old in values]
                    setattr(holder, field, np.array(moved_values, np.int32))

    def _drop_unused_opcodes(self) -> None:
        used = sorted({o.opcodeIndex for _, o in self.operators()})
        moved = {old: new for new, old in enumerate(used)}
        for _, operator in self.operators():
            operator.opcodeIndex = moved[operator.opcodeIndex]
        codes = self.model.operatorCodes
        self.model.operatorCodes = [codes[old] for old in used]

    def _drop_unused_buffers(self) -> None:
        model = self.model
        holders = [t for g in model.subgraphs for t in g.tensors]
        holders += model.metadata or []
        used = sorted({0} | {holder.buffer for holder in holders})
        moved = {old: new for new, old in enumerate(used)}
        for holder in holders:
            holder.buffer = moved[holder.buffer]
        model.buffers = [model.buffers[old] for old in used]
        model.metadataBuffer = None  # the old form of `metadata`


def _append(items: list[Any], item: Any) -> int:
    items.append(item)
    return len(items) - 1
