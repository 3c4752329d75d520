"""Whether a file holds the weights that it was made from.

A run on samples cannot tell a small weight that is missing from rounding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np

from scl_keras.export.weights import Weights


def lost_weights(weights: Sequence[Weights], dense: Sequence[Weights]) -> str | None:
    """Returns what an encoding has lost, if anything.

    Args:
        weights: Those of an encoded file.
        dense: Those of the file before it was encoded.
    """
    # Encoding rounds nothing, so every weight must be there to the last bit.
    expected = Counter(map(_content, dense))
    for kernel in weights:
        if kernel.encoding != "dense" and not expected[_content(kernel)]:
            return (
                f"is encoded wrong: {kernel.name!r} of shape {kernel.values.shape} "
                f"does not hold the model's weights"
            )
    return None


def _content(kernel: Weights) -> tuple[tuple[int, ...], str, bytes]:
    """Returns what a kernel holds, but for columns of zeros that fill up a block."""
    values = kernel.values
    if values.ndim == 2:
        columns = np.flatnonzero((values != 0).any(axis=0))
        values = values[:, : columns[-1] + 1 if columns.size else 0]
    if values.dtype.kind == "f":
        # Adding zero makes -0.0 (a negative weight times its mask) an ordinary zero.
        values = np.add(values, values.dtype.type(0))
    return values.shape, values.dtype.str, np.ascontiguousarray(values).tobytes()


def badly_rounded(weights: Sequence[Weights], precise: Sequence[Weights]) -> str | None:
    """Returns what is further off than rounding puts it, if anything.

    Args:
        weights: Those of a file of a coarser precision than float32.
        precise: Those of the float32 file.
    """
    for kernel in weights:
        if kernel.values.dtype == np.float32:
            continue
        alike = (p for p in precise if p.values.shape == kernel.values.shape)
        if not any(_is_rounded(kernel, p.values) for p in alike):
            return (
                f"is rounded wrong: {kernel.name!r} of shape {kernel.values.shape} "
                f"does not hold the model's weights"
            )
    return None


def _is_rounded(kernel: Weights, precise: np.ndarray) -> bool:
    """Returns whether stored weights are the float32 ones, rounded to the nearest."""
    found = kernel.values.astype(np.float64) * kernel.scale
    step: np.ndarray | float
    if kernel.values.dtype == np.int8:
        step = np.asarray(kernel.scale, np.float64) / 2
    elif kernel.values.dtype == np.float16:
        # Half of the distance of neighbours: normal numbers, then subnormal ones.
        step = np.maximum(2.0**-11 * np.abs(precise), 2.0**-25)
    else:
        step = 0.0
    return bool(np.all(np.abs(found - precise) <= 1.001 * step))
