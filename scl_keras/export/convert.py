"""Run the TensorFlow Lite converter on a model."""

from __future__ import annotations

import functools
import os
import tempfile
import warnings
from types import TracebackType

import keras
import tensorflow as tf

from scl_keras.connectivity import compact
from scl_keras.conversion.strip import strip_masks
from scl_keras.export.precisions import PRECISIONS, Precision
from scl_keras.export.reference import Reference, flat_function
from scl_keras.export.tidy import tidy

_SIGNATURE = "serving_default"


class NotNeeded(Exception):
    """Raised where a candidate would be another one over again."""


class Source:
    """What candidates are made from: the converter's own files.

    A context manager: the SavedModels behind the conversions are written once,
    to a temporary folder, and are gone afterwards.
    """

    def __init__(self, reference: Reference):
        self._reference = reference
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: dict[tuple[Precision, bool], bytes] = {}

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
        return self._convert(PRECISIONS[0])

    @functools.cached_property
    def sparse(self) -> bytes:
        """The converter's file with `EXPERIMENTAL_SPARSITY`, right or wrong."""
        return self.stock(PRECISIONS[0])

    def base(self, precision: Precision, compacted: bool = False) -> bytes:
        """A dense file, whose kernels an encoder may encode.

        Args:
            precision: Of the file.
            compacted: Whether dead units and channels are removed first.

        Returns:
            The bytes of the file.

        Raises:
            NotNeeded: If there is nothing to remove.
        """
        key = precision, compacted
        if key not in self._files:
            plain = precision is PRECISIONS[0] and not compacted
            file = self.dense if plain else self._convert(precision, compacted)
            file = tidy(file)
            self._files[key] = precision.rewrite(file) if precision.rewrite else file
        return self._files[key]

    def stock(self, precision: Precision) -> bytes:
        """The converter's own sparse encoding, right or wrong."""
        return self._convert(
            precision, optimizations=[tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        )

    @functools.cached_property
    def _stock(self) -> keras.Model:
        """The model without masks: the converter does not fold all of them."""
        try:
            return strip_masks(self._reference.model)
        except ValueError:  # a subclassed model keeps its layers
            return self._reference.model

    @functools.cached_property
    def _compacted(self) -> keras.Model | Exception:
        """The model without its dead units, or why there is none: asked for often."""
        try:
            model = compact(self._stock)
        # A layer that can't be made smaller may raise anything; the whole model
        # is exported then.
        except Exception as error:
            return error
        if model.count_params() >= self._stock.count_params():
            return NotNeeded("no unit or channel is dead")
        return model

    @functools.cached_property
    def _saved_model(self) -> str:
        return self._save("saved_model", self._stock)

    @functools.cached_property
    def _compacted_model(self) -> str:
        if isinstance(self._compacted, Exception):
            raise self._compacted
        return self._save("compacted_model", self._compacted)

    def _save(self, name: str, model: keras.Model) -> str:
        # Neither `TFLiteConverter.from_keras_model` nor `Model.export`: the first
        # prints a page and leaves its folder behind, and both leave the order
        # of the inputs to the converter.
        folder = os.path.join(self._folder.name, name)
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint(
            "serve",
            flat_function(model, self._reference.structure),
            input_signature=self._reference.signature,
        )
        archive.write_out(folder, verbose=False)
        return folder

    def _convert(
        self,
        precision: Precision,
        compacted: bool = False,
        optimizations: list[tf.lite.Optimize] = (),
    ) -> bytes:
        folder = self._compacted_model if compacted else self._saved_model
        converter = tf.lite.TFLiteConverter.from_saved_model(
            folder, signature_keys=[_SIGNATURE]
        )
        precision.configure(converter, self._reference)
        converter.optimizations = [*converter.optimizations, *optimizations]
        with warnings.catch_warnings():
            # Calibration uses what TensorFlow itself declares deprecated, and warns of
            # input ranges that it then finds out.
            warnings.simplefilter("ignore")
            return bytes(converter.convert())
