"""Store kernels as int8, and compute in float32.

The default delegate does not load sparse int8 kernels that are computed with. As mere
storage they work: the runtime unpacks them and converts them to float32 when it loads
the file.
"""

from __future__ import annotations

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from scl_keras.export.flat_model import BUILTIN, FlatModel, Kernel

_VERSION = 5  # of DEQUANTIZE, from which on each channel may have a scale


def store_as_int8(file: bytes) -> bytes:
    """Rounds every float32 kernel to int8, symmetric and with a scale a feature.

    `w ≈ scale · q` with `scale = max |w| / 127` over the feature, so that each weight
    is off by half a scale at most, and zeros stay zeros.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The bytes of the file.
    """
    flat = FlatModel(file)
    for kernel in flat.kernels():
        if kernel.tensor.type == schema.TensorType.FLOAT32:
            _convert(flat, kernel, _feature_axis(flat, kernel))
    return flat.to_bytes()


def _feature_axis(flat: FlatModel, kernel: Kernel) -> int:
    kinds = {flat.kind(o) for o in flat.readers(kernel.graph, kernel.position)}
    return 3 if kinds == {BUILTIN.DEPTHWISE_CONV_2D} else 0


def _convert(flat: FlatModel, kernel: Kernel, axis: int) -> None:
    values = flat.constant(kernel.tensor)
    others = tuple(a for a in range(values.ndim) if a != axis)
    largest = np.abs(values).max(axis=others, keepdims=True)
    scale = np.where(largest > 0, largest / 127, 1).astype(np.float32)
    parameters = schema.QuantizationParametersT()
    parameters.scale = scale.ravel()
    parameters.zeroPoint = np.zeros(scale.size, np.int64)
    parameters.quantizedDimension = axis
    source = flat.add_tensor(
        kernel.graph,
        kernel.tensor,
        "/int8",
        type=schema.TensorType.INT8,
        quantization=parameters,
    )
    rounded = np.clip(np.round(values / scale), -127, 127).astype(np.int8)
    flat.store(kernel.graph.tensors[source], rounded)
    kernel.tensor.buffer = 0  # the tensor is computed now
    dequantize = flat.make_operator(
        BUILTIN.DEQUANTIZE, [source], kernel.position, "Dequantize", _VERSION
    )
    kernel.graph.operators.insert(0, dequantize)
