"""The precisions a file may have: how each is made, and how exact it has to be.

A new one is a new entry of `PRECISIONS`.

The converter makes all but one. "int8 weights" is made here: kernels are stored as
int8, and computed with in float32. The default delegate does not load sparse int8
kernels that are computed with. As mere storage they work: the runtime unpacks them and
converts them to float32 when it loads the file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from scl_keras.export.flat_model import BUILTIN, FlatModel, Kernel
from scl_keras.export.reference import Reference
from scl_keras.export.tables import store_tables_as_int8
from scl_keras.export_choices import DTYPES

_DEQUANTIZE_VERSION = 5  # from which on each channel may have a scale


def _keep_float32(converter: tf.lite.TFLiteConverter, reference: Reference) -> None:
    """The converter's default."""


def _round_to_float16(converter: tf.lite.TFLiteConverter, reference: Reference) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _quantize_weights(converter: tf.lite.TFLiteConverter, reference: Reference) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def _quantize(converter: tf.lite.TFLiteConverter, reference: Reference) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _calibration_samples(reference)


def _calibration_samples(reference: Reference) -> Iterator[dict[str, np.ndarray]]:
    """Yields the samples, one at a time where the batch size is open."""
    for batch in reference.batches:
        if batch.first is None:
            continue
        size = 1 if reference.signature[0].shape[0] is None else batch.size
        for start in range(0, batch.size, size):
            yield {k: v[start : start + size] for k, v in batch.inputs.items()}


def store_as_int8(file: bytes) -> bytes:
    """Rounds every float32 kernel to int8, symmetric, with one scale for each feature.

    `w ≈ scale · q` with `scale = max |w| / 127` over the feature, so that each weight
    is off by half a scale at most, and zeros stay zeros. A table of embeddings has one
    scale.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The bytes of the file.
    """
    flat = FlatModel(file)
    for kernel in flat.kernels():
        if kernel.tensor.type == schema.TensorType.FLOAT32:
            _store_kernel_as_int8(flat, kernel, _feature_axis(flat, kernel))
    store_tables_as_int8(flat)
    return flat.to_bytes()


def _feature_axis(flat: FlatModel, kernel: Kernel) -> int:
    kinds = {flat.kind(o) for o in flat.readers(kernel.graph, kernel.position)}
    return 3 if kinds == {BUILTIN.DEPTHWISE_CONV_2D} else 0


def _store_kernel_as_int8(flat: FlatModel, kernel: Kernel, axis: int) -> None:
    values = kernel.values
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
        BUILTIN.DEQUANTIZE, [source], kernel.position, "Dequantize", _DEQUANTIZE_VERSION
    )
    kernel.graph.operators.insert(0, dequantize)


@dataclasses.dataclass(frozen=True)
class Precision:
    """How weights and activations are stored and computed.

    Attributes:
        name: What candidates are called by it; empty for float32.
        dtype: It is tried where `export_tflite` allows this dtype or a coarser one.
        configure: Sets up the converter.
        encodings: Names of the encodings that load with it (see `ENCODINGS`).
        tolerance: Largest difference to Keras that its rounding may make, as a share of
            the largest output.
        rewrite: Turns a float32 file into one of this precision; None where the
            converter makes it.
        converter_sparse: Whether the converter's own sparse encoding is tried, too. Of
            float16 it is never smaller than "csr", and the default delegate loads none
            of int8.
        shuffled: Whether it must be right on shuffled samples as well. Calibrated
            activations need not be: shuffled samples leave the calibrated range.
        exact: Whether it computes in float32, so that two files with the same weights
            differ by the order of sums only.
    """

    name: str
    dtype: str
    configure: Callable[[tf.lite.TFLiteConverter, Reference], None]
    encodings: tuple[str, ...]
    tolerance: float
    rewrite: Callable[[bytes], bytes] | None = None
    converter_sparse: bool = False
    shuffled: bool = True
    exact: bool = True


# Tolerances of the roundings: float16 rounds a weight by up to 2^-11 = 5e-4 of itself,
# int8 by 1/254 = 4e-3 of the largest of its feature, and activations as well. Layers
# add up; these leave room for some tens of them. They catch what is broken, not what is
# merely coarse: that is what the accuracy in the report is for.
PRECISIONS = (
    Precision(
        name="",
        dtype="float32",
        configure=_keep_float32,
        encodings=("dense", "csr", "rows", "blocks", "mixed"),
        tolerance=1e-4,
        converter_sparse=True,
    ),
    Precision(
        name="float16",
        dtype="float16",
        configure=_round_to_float16,
        encodings=("dense", "csr"),
        tolerance=1e-2,
    ),
    Precision(
        name="int8",
        dtype="int8",
        configure=_quantize,
        encodings=("dense", "csr"),  # of tables of embeddings only
        tolerance=0.15,
        shuffled=False,
        exact=False,
    ),
    Precision(
        name="int8 dynamic",
        dtype="int8",
        configure=_quantize_weights,
        encodings=("dense", "csr"),  # of tables of embeddings only
        tolerance=0.15,
        exact=False,
    ),
    Precision(
        name="int8 weights",
        dtype="int8",
        configure=_keep_float32,
        encodings=("dense", "csr"),
        tolerance=0.1,
        rewrite=store_as_int8,
    ),
)

FLOAT32 = PRECISIONS[0]


def precisions(dtype: str) -> list[Precision]:
    """Returns the precisions that are no coarser than `dtype`."""
    allowed = DTYPES[: DTYPES.index(dtype) + 1]
    return [precision for precision in PRECISIONS if precision.dtype in allowed]
