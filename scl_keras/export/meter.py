"""Bytes and time of the file that a model would become, as it is now."""

from __future__ import annotations

import keras
import numpy as np

from scl_keras import backend, checks
from scl_keras.export.converter import ConvertedFiles, NotNeeded, without_masks
from scl_keras.export.encodings import ENCODINGS
from scl_keras.export.float32 import InFloat32
from scl_keras.export.latency import measure_latencies
from scl_keras.export.metadata import add_metadata
from scl_keras.export.precisions import FLOAT32, PRECISIONS, Precision
from scl_keras.export.reference import build_reference
from scl_keras.export.samples import Samples
from scl_keras.export_choices import DTYPES

# Those that need no samples of the data: of int8, integers that are only stored. With
# "csr" that is the smallest there is; of a tiny file float32 is, which needs fewer
# operators.
_STORED = {
    "float32": FLOAT32,
    "float16": next(p for p in PRECISIONS if p.name == "float16"),
    "int8": next(p for p in PRECISIONS if p.name == "int8 weights"),
}
_FACTS = {"candidate": "int8 weights compact csr", "weights": 10**6, "nonzero": 10**5}


class FileMeter:
    """Measures the file that `export_tflite` would write of a model.

    It makes the files that are smallest where connections are cut, and doesn't run
    them but to time them. What it says holds for the masks at the moment of the call.

    Args:
        model: A built Keras model, with masks or without.
        dtype: The coarsest precision allowed, as for `export_tflite`.
        samples: As for `export_tflite`; by default zeros, for models without open
            sizes.

    Raises:
        ValueError: If an argument doesn't fit, or sizes are open and there are no
            samples.
        RuntimeError: If Keras runs on another backend than TensorFlow.
    """

    def __init__(
        self, model: keras.Model, dtype: str = "int8", samples: Samples | None = None
    ):
        backend.check_can_export()
        checks.one_of("dtype", dtype, DTYPES)
        self._model = model
        self._precisions = list(dict.fromkeys((FLOAT32, _STORED[dtype])))
        self._samples = _zeros(model) if samples is None else samples
        self._dense: bytes | None = None

    def bytes(self) -> int:
        """The bytes of the smallest file."""
        _, files = self._files(self._precisions)
        return min(
            len(add_metadata(ENCODINGS[encoding](file), _FACTS))
            for precision, file in zip(self._precisions, files, strict=True)
            for encoding in precision.encodings
        )

    def time(self, seconds: float = 1.0) -> float:
        """The time of an inference, as a share of the time of the dense model.

        Both are files of float32, and neither computes with sparse kernels: what makes
        the difference are dead units and channels, which are removed.

        Args:
            seconds: How long to measure.
        """
        if self._dense is None:
            _, (self._dense,) = self._files([FLOAT32], compacted=False)
        reference, (file,) = self._files([FLOAT32])
        files = {"dense": self._dense, "now": file}
        timings = measure_latencies(files, reference.batches[0].inputs, seconds)
        return 1 / timings.speed("now", "dense").ratio

    def _files(self, precisions: list[Precision], compacted: bool = True):
        with (in_float32 := InFloat32(self._model)):
            reference = build_reference(in_float32.model, self._samples)
        with (
            in_float32,
            without_masks(in_float32.model),
            ConvertedFiles(reference) as files,
        ):
            return reference, [_file(files, p, compacted) for p in precisions]


def _file(files: ConvertedFiles, precision: Precision, compacted: bool) -> bytes:
    if compacted:
        try:
            return files.dense(precision, compacted=True)
        # Nothing is dead, or all is, or a layer can't be made smaller.
        except (NotNeeded, ValueError):
            pass
    return files.dense(precision)


def _zeros(model: keras.Model) -> list[np.ndarray]:
    inputs = getattr(model, "inputs", None)
    if not inputs or any(None in x.shape[1:] for x in inputs):
        raise ValueError(
            "The bytes and the time of a file depend on the sizes of its inputs, which "
            f"model '{model.name}' leaves open: give `samples`, as `export_tflite` "
            f"takes them. Received: inputs={inputs!r}"
        )
    return [np.zeros((x.shape[0] or 1, *x.shape[1:]), x.dtype) for x in inputs]
