"""Run the TensorFlow Lite converter on a model."""

from __future__ import annotations

import functools
import os
import tempfile
from types import TracebackType

import keras
import tensorflow as tf

from scl_keras.export.reference import Reference

_SIGNATURE = "serving_default"


class Source:
    """What candidates are made from: the converter's own files.

    A context manager: the SavedModel behind the conversions is written once,
    to a temporary folder, and is gone afterwards.
    """

    def __init__(self, reference: Reference):
        self._reference = reference
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Source:
        self._folder = tempfile.TemporaryDirectory(prefix="scl_keras_export_")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._folder.cleanup()

    @functools.cached_property
    def dense(self) -> bytes:
        """The plain converter's file."""
        return self._convert([])

    @functools.cached_property
    def sparse(self) -> bytes:
        """The converter's file with `EXPERIMENTAL_SPARSITY`, right or wrong."""
        return self._convert([tf.lite.Optimize.EXPERIMENTAL_SPARSITY])

    @functools.cached_property
    def _saved_model(self) -> str:
        # Neither `TFLiteConverter.from_keras_model` nor `Model.export`: the first
        # prints a page and leaves its folder behind, and both leave the order
        # of the inputs to the converter.
        folder = os.path.join(self._folder.name, "saved_model")
        archive = keras.export.ExportArchive()
        archive.track(self._reference.model)
        archive.add_endpoint(
            "serve", self._reference.serve, input_signature=self._reference.signature
        )
        archive.write_out(folder, verbose=False)
        return folder

    def _convert(self, optimizations: list[tf.lite.Optimize]) -> bytes:
        converter = tf.lite.TFLiteConverter.from_saved_model(
            self._saved_model, signature_keys=[_SIGNATURE]
        )
        converter.optimizations = optimizations
        return bytes(converter.convert())
