"""The precisions a file may have: how each is made, and how exact it has to be.

A new one is a new entry of `PRECISIONS`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from scl_keras.export.int8_weights import store_as_int8
from scl_keras.export.reference import Reference

_Converter = tf.lite.TFLiteConverter


def _leave(converter: _Converter, reference: Reference) -> None:
    """Float32: the converter's default."""


def _float16(converter: _Converter, reference: Reference) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_types = [tf.float16]


def _dynamic(converter: _Converter, reference: Reference) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]


def _integer(converter: _Converter, reference: Reference) -> None:
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: _samples(reference)


def _samples(reference: Reference) -> Iterator[dict[str, np.ndarray]]:
    """The samples, one a call where the batch size is open."""
    for batch in reference.batches:
        if batch.first is None:
            continue
        size = 1 if reference.signature[0].shape[0] is None else batch.size
        for start in range(0, batch.size, size):
            yield {k: v[start : start + size] for k, v in batch.inputs.items()}


@dataclasses.dataclass(frozen=True)
class Precision:
    """How weights and activations are stored and computed.

    Attributes:
        name: What candidates are called by it; empty for float32.
        dtype: The value of `export_tflite`'s `dtype` from which on it is tried.
        configure: Sets up the converter.
        encodings: Names of the encodings that load with it (see `ENCODINGS`).
        tolerance: Largest difference to Keras that its rounding may make, as a share of
            the largest output.
        rewrite: Turns the converter's file into one of this precision.
        stock: Whether the converter's own sparse encoding is tried, too.
        shuffled: Whether it must be right on shuffled samples as well. Calibrated
            activations need not be: shuffled samples leave the calibrated range.
        exact: Whether it computes in float32, so that two files with the same weights
            differ by the order of sums only.
    """

    name: str
    dtype: str
    configure: Callable[[_Converter, Reference], None]
    encodings: tuple[str, ...]
    tolerance: float
    rewrite: Callable[[bytes], bytes] | None = None
    stock: bool = True
    shuffled: bool = True
    exact: bool = True


# Tolerances of the roundings: float16 rounds a weight by up to 2^-11 = 5e-4 of itself,
# int8 by 1/254 = 4e-3 of the largest of its feature, and activations as well. Layers
# add up; these leave room for some tens of them. They catch what is broken, not what is
# merely coarse: that is what the accuracy in the report is for.
PRECISIONS = (
    Precision("", "float32", _leave, ("dense", "csr", "rows", "blocks", "mixed"), 1e-4),
    Precision("float16", "float16", _float16, ("dense", "csr"), 1e-2),
    Precision("int8", "int8", _integer, ("dense",), 0.15, shuffled=False, exact=False),
    Precision("int8 dynamic", "int8", _dynamic, ("dense",), 0.15, exact=False),
    Precision(
        "int8 weights",
        "int8",
        _leave,
        ("dense", "csr"),
        0.1,
        rewrite=store_as_int8,
        stock=False,
    ),
)

DTYPES = ("float32", "float16", "int8")  # from fine to coarse


def precisions(dtype: str) -> list[Precision]:
    """Returns the precisions that are no coarser than `dtype`."""
    allowed = DTYPES[: DTYPES.index(dtype) + 1]
    return [precision for precision in PRECISIONS if precision.dtype in allowed]


def rounded(values: np.ndarray, precise: np.ndarray, scale) -> bool:
    """Whether stored weights are the precise ones, rounded to the nearest.

    Args:
        values: Weights as they are stored.
        precise: The float32 weights.
        scale: What int8 values are multiplied with.
    """
    found = values.astype(np.float64) * scale
    if values.dtype == np.int8:
        step = np.asarray(scale, np.float64) / 2
    elif values.dtype == np.float16:
        # Half of the distance of neighbours: normal numbers, then subnormal ones.
        step = np.maximum(2.0**-11 * np.abs(precise), 2.0**-25)
    else:
        step = 0.0
    return bool(np.all(np.abs(found - precise) <= 1.001 * step))
