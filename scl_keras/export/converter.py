"""The files that the TensorFlow Lite converter makes of a model."""

from __future__ import annotations

import contextlib
import functools
import os
import tempfile
import warnings
from collections.abc import Sequence
from types import TracebackType

import keras
import numpy as np
import tensorflow as tf
from ai_edge_litert import schema_py_generated as schema

from scl_keras.conversion.strip import can_be_stripped, stripped
from scl_keras.export.chatter import without_chatter
from scl_keras.export.flat_model import BUILTIN, FlatModel
from scl_keras.export.open_sizes import agree_at_other_sizes, compacted_model
from scl_keras.export.precisions import FLOAT32, Precision
from scl_keras.export.reference import Reference, named_function
from scl_keras.graph.states import from_initial_states

_SIGNATURE = "serving_default"


class NotNeeded(Exception):
    """Raised where a candidate would be another one over again."""


class SavingError(Exception):
    """Raised where the model can't be saved, before the converter has anything to do.

    The exception that it is raised from says why.

    Args:
        folder: Where it was to be saved.
        cause: The exception.
    """

    def __init__(self, folder: str, cause: Exception):
        super().__init__(str(cause))
        self.cause = cause
        # TensorFlow's own errors of a disk name the file that it can't write.
        self.is_of_disk = isinstance(cause, OSError) or (
            isinstance(cause, tf.errors.OpError) and folder in str(cause)
        )


class ConvertedFiles:
    """What candidates are made from: the converter's files of one model.

    A context manager: the SavedModels that the converter reads are written once, to a
    temporary folder, and are gone afterwards.

    Args:
        reference: The model, and what it computes.
    """

    def __init__(self, reference: Reference):
        self._reference = reference
        self._folder: tempfile.TemporaryDirectory[str]  # while it is entered
        self._dense_files: dict[tuple[Precision, bool], bytes] = {}

    def __enter__(self) -> ConvertedFiles:
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
    def plain(self) -> bytes:
        """The file of the whole model with the converter's defaults, untouched.

        Raises:
            SavingError: If there is nothing to convert.
        """
        return self._convert(FLOAT32)

    def dense(self, precision: Precision, compacted: bool = False) -> bytes:
        """Returns a tidied file, whose kernels an encoding may encode.

        Args:
            precision: Of the file.
            compacted: Whether dead units and channels are removed first.

        Raises:
            NotNeeded: If there is nothing to remove.
        """
        key = precision, compacted
        if key not in self._dense_files:
            if precision.rewrite:
                file = precision.rewrite(self.dense(FLOAT32, compacted))
            elif precision is FLOAT32 and not compacted:
                file = tidy(self.plain)
            else:
                file = tidy(self._convert(precision, compacted))
            self._dense_files[key] = file
        return self._dense_files[key]

    def sparse(self, precision: Precision = FLOAT32) -> bytes:
        """Returns a file with the converter's own sparse encoding, right or wrong."""
        return self._convert(
            precision, optimizations=[tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
        )

    def _convert(
        self,
        precision: Precision,
        compacted: bool = False,
        optimizations: Sequence[tf.lite.Optimize] = (),
    ) -> bytes:
        converter = tf.lite.TFLiteConverter.from_saved_model(
            self._compact_folder if compacted else self._stock_folder,
            signature_keys=[_SIGNATURE],
        )
        precision.configure(converter, self._reference)
        converter.optimizations = [*converter.optimizations, *optimizations]
        with warnings.catch_warnings(), without_chatter():
            # Calibration uses what TensorFlow itself declares deprecated, and warns of
            # input ranges that it then finds out.
            warnings.simplefilter("ignore")
            return bytes(converter.convert())

    @functools.cached_property
    def _stock_folder(self) -> str:
        try:
            return self._save("stock", self._reference.model)
        except Exception as error:  # of the disk, or whatever tracing the model raises
            raise SavingError(self._folder.name, error) from error

    @functools.cached_property
    def _compact_folder(self) -> str:
        if isinstance(self._compact_model, Exception):
            raise self._compact_model
        return self._save("compact", self._compact_model)

    @functools.cached_property
    def _compact_model(self) -> keras.Model | Exception:
        """The model without its dead units, or why there is none: asked for often."""
        try:
            model = compacted_model(self._reference)
        # A layer that can't be made smaller may raise anything; the whole model
        # is exported then.
        except Exception as error:
            return error
        if model.count_params() >= self._reference.model.count_params():
            return NotNeeded("no unit or channel is dead")
        if not agree_at_other_sizes(self._reference, model):
            return NotNeeded("what is dead depends on the sizes that are open")
        return model

    def _save(self, name: str, model: keras.Model) -> str:
        # Neither `TFLiteConverter.from_keras_model` nor `Model.export`: the first
        # prints a page and leaves its folder behind, and both leave the order
        # of the inputs to the converter.
        folder = os.path.join(self._folder.name, name)
        archive = keras.export.ExportArchive()
        archive.track(model)
        with from_initial_states(model):  # which the file begins with
            archive.add_endpoint(
                "serve",
                named_function(model, self._reference.structure),
                input_signature=self._reference.signature,
            )
            archive.write_out(folder, verbose=False)
        return folder


def without_masks(model: keras.Model) -> contextlib.AbstractContextManager:
    """Takes a model's masks out for a while, for the converter doesn't fold them all.

    Where a masked layer has no stock one, the model stays as it is.
    """
    return stripped(model) if can_be_stripped(model) else contextlib.nullcontext()


def tidy(file: bytes) -> bytes:
    """Gives each RESHAPE a constant shape where it is known, or leaves it out.

    Keras's `Flatten` and `Reshape` of a model with an open batch size become SHAPE,
    STRIDED_SLICE, PACK and RESHAPE, computed at each call and outside of the delegate.
    With one open size, RESHAPE finds it out by itself. In front of FULLY_CONNECTED,
    which flattens what it reads, it does nothing.

    Of the names that the converter joins for each tensor, the last one is kept.

    Args:
        file: The bytes of a TFLite file.

    Returns:
        The bytes of a file that computes the same.
    """
    flat = FlatModel(file)
    for graph, operator in list(flat.operators()):
        if flat.kind(operator) == BUILTIN.RESHAPE and len(operator.inputs) == 2:
            _fix_shape(flat, graph, operator)
            _flatten_in_dense_layer(flat, graph, operator)
    for graph in flat.model.subgraphs:
        _drop_unread(flat, graph)
        for tensor in graph.tensors:
            tensor.name = tensor.name.rpartition(b";")[2]
    return flat.to_bytes()


def _fix_shape(
    flat: FlatModel, graph: schema.SubGraphT, operator: schema.OperatorT
) -> None:
    shape = graph.tensors[operator.inputs[1]]
    output = graph.tensors[operator.outputs[0]]
    computed = any(operator.inputs[1] in other.outputs for other in graph.operators)
    signature = output.shapeSignature
    if not computed or signature is None or list(signature).count(-1) != 1:
        return
    if 0 in signature:
        return
    constant = flat.add_tensor(
        graph,
        shape,
        "/constant",
        shape=np.array([len(signature)], np.int32),
        shapeSignature=None,
        type=schema.TensorType.INT32,
    )
    flat.store(graph.tensors[constant], np.asarray(signature, np.int32))
    operator.inputs = np.array([operator.inputs[0], constant], np.int32)


def _flatten_in_dense_layer(
    flat: FlatModel, graph: schema.SubGraphT, operator: schema.OperatorT
) -> None:
    """Has dense layers read what a RESHAPE to (batch, inputs) reads."""
    position = int(operator.outputs[0])
    shape = graph.tensors[position].shape
    readers = flat.readers(graph, position)
    source = graph.tensors[operator.inputs[0]].shape
    if len(shape) != 2 or source is None or position in graph.outputs or not readers:
        return
    if np.prod(source[1:]) != shape[1]:  # batches would be merged or split
        return
    for reader in readers:
        if (
            flat.kind(reader) != BUILTIN.FULLY_CONNECTED
            or reader.builtinOptions.keepNumDims
            or list(reader.inputs).index(position) != 0
            or graph.tensors[reader.inputs[1]].shape[-1] != shape[1]
        ):
            return
    for reader in readers:
        reader.inputs = np.array([operator.inputs[0], *reader.inputs[1:]], np.int32)


def _drop_unread(flat: FlatModel, graph: schema.SubGraphT) -> None:
    """Removes operators that compute shapes which no other reads."""
    kinds = {BUILTIN.SHAPE, BUILTIN.STRIDED_SLICE, BUILTIN.PACK, BUILTIN.RESHAPE}
    while True:
        read = {int(i) for o in graph.operators for i in o.inputs}
        read |= {int(i) for i in graph.outputs}
        kept = [
            operator
            for operator in graph.operators
            if flat.kind(operator) not in kinds
            or not read.isdisjoint(map(int, operator.outputs))
        ]
        if len(kept) == len(graph.operators):
            return
        graph.operators = kept
