"""Models that leave sizes open: compacted at the samples' sizes, right at others."""

from __future__ import annotations

import keras
import numpy as np

from scl_keras.connectivity import compact
from scl_keras.export.reference import Reference, named_function

_TOLERANCE = 1e-4  # that of a float32 file, see `export_tflite`


def compacted_model(reference: Reference) -> keras.Model:
    """Returns the model without dead units, with the sizes open that it leaves open.

    Args:
        reference: The model, and samples that tell the sizes.
    """
    if not _is_open(reference):
        return compact(reference.model)
    inputs = reference.batches[0].inputs
    shapes = [inputs[spec.name].shape[1:] for spec in reference.signature]
    return compact(reference.model, shapes, keep_open=True)


def agree_at_other_sizes(reference: Reference, other: keras.Model) -> bool:
    """Whether another model computes the same where open sizes are half or twice.

    What reads only padding in a short input may read the input in a longer one. A size
    that the model itself doesn't take isn't compared.

    Args:
        reference: The model, and samples.
        other: What was made of it.
    """
    if not _is_open(reference):
        return True
    serve, serve_other = (
        named_function(model, reference.structure) for model in (reference.model, other)
    )
    for inputs in (_resized(reference, 1, 2), _resized(reference, 2, 1)):
        try:
            expected = serve(*inputs)
        # Whatever a layer raises for an input that is too small for it.
        except Exception:
            continue
        found = serve_other(*inputs)
        for name, output in expected.items():
            a, b = (keras.ops.convert_to_numpy(x) for x in (output, found[name]))
            if a.shape != b.shape:
                return False
            a, b = a.astype(np.float64), b.astype(np.float64)
            if not np.abs(a - b).max() <= _TOLERANCE * np.abs(a).max():
                return False
    return True


def _is_open(reference: Reference) -> bool:
    return any(None in spec.shape[1:] for spec in reference.signature)


def _resized(reference: Reference, times: int, over: int) -> list[np.ndarray]:
    """Returns samples of other sizes: those at hand, cut off or repeated."""
    resized = []
    for spec in reference.signature:
        values = reference.batches[0].inputs[spec.name]
        shape = [len(values)]
        for size, fixed in zip(values.shape[1:], spec.shape[1:], strict=True):
            shape.append(size if fixed is not None else max(1, size * times // over))
        resized.append(np.resize(values, shape))
    return resized
