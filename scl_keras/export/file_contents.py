"""Files that may come from anywhere: read, refused if they are damaged, and classified.

What is read here is only the FlatBuffer. What the runtime makes of it is another thing
(`first_run.py`).
"""

from __future__ import annotations

from ai_edge_litert import schema_py_generated as schema

from scl_keras.export.flat_model import BUILTIN, FlatModel
from scl_keras.export.precisions import PRECISIONS, Precision

_IDENTIFIER = b"TFL3"

_TYPE = schema.TensorType
_INTEGERS = {_TYPE.INT4, _TYPE.INT8, _TYPE.UINT8, _TYPE.INT16}

# They move or convert integers, and compute none.
_MOVERS = {
    *(BUILTIN.QUANTIZE, BUILTIN.DEQUANTIZE, BUILTIN.DENSIFY),
    *(BUILTIN.GATHER, BUILTIN.EMBEDDING_LOOKUP),
}


def read_file(file: bytes) -> FlatModel:
    """Reads all of a file, but for what is encoded in its sparse tensors.

    Args:
        file: Any bytes.

    Returns:
        The objects of the file.

    Raises:
        ValueError: If it is no TFLite file, or what it says can't be.
    """
    if file[4:8] != _IDENTIFIER:
        raise ValueError(
            "It is no TFLite file: those have the letters TFL3 from byte 4 on. "
            f"Received: {len(file):,} bytes, with {bytes(file[4:8])!r} there"
        )
    try:
        flat = FlatModel(file)
        _check_indices(flat)
        for graph in flat.model.subgraphs:
            for tensor in graph.tensors:
                flat.constant(tensor)  # which has as many values as its shape says
    except Exception as error:  # whatever reading offsets out of range comes to
        raise ValueError(
            f"The file is damaged, it can't be read: {type(error).__name__}: {error}"
        ) from error
    return flat


def precision_of(flat: FlatModel) -> Precision:
    """Tells how exact a file can be, by its coarsest numbers.

    Args:
        flat: The objects of a file, of whatever converter.

    Returns:
        One of `PRECISIONS`.
    """
    return next(p for p in PRECISIONS if p.name == _name_of_precision(flat))


def _name_of_precision(flat: FlatModel) -> str:
    computing = [
        (graph, operator)
        for graph, operator in flat.operators()
        if flat.kind(operator) not in _MOVERS
    ]
    if any(_has_integers(g, o.outputs) for g, o in computing):
        return "int8"
    if any(_has_integers(g, o.inputs) for g, o in computing):
        return "int8 dynamic"
    tensors = [tensor for graph in flat.model.subgraphs for tensor in graph.tensors]
    if any(map(_is_quantized, tensors)):
        return "int8 weights"
    return "float16" if any(t.type == _TYPE.FLOAT16 for t in tensors) else ""


def _has_integers(graph: schema.SubGraphT, positions) -> bool:
    return any(_is_quantized(graph.tensors[i]) for i in positions if i >= 0)


def _is_quantized(tensor: schema.TensorT) -> bool:
    found = tensor.quantization
    scaled = found is not None and found.scale is not None and len(found.scale) > 0
    return scaled and tensor.type in _INTEGERS


def _check_indices(flat: FlatModel) -> None:
    """Refuses what refers to something that isn't there."""
    model = flat.model
    if not model.subgraphs:
        raise ValueError("there is no graph in it")
    for graph in model.subgraphs:
        for tensor in graph.tensors or ():
            if not 0 <= tensor.buffer < len(model.buffers):
                raise ValueError(f"a tensor is in buffer {tensor.buffer}")
        count = len(graph.tensors or ())
        for operator in graph.operators:
            if not 0 <= operator.opcodeIndex < len(model.operatorCodes):
                raise ValueError(f"an operator is of kind {operator.opcodeIndex}")
        holders = (graph, *graph.operators)
        indices = [i for h in holders for i in (*h.inputs, *h.outputs)]
        if any(not -1 <= i < count for i in indices):
            raise ValueError(f"an operator reads a tensor that isn't of the {count}")
