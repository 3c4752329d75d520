"""Models of other float types, rebuilt in float32 for the time of an export.

A TFLite file computes in float32: for `float16` and `bfloat16` of Keras, and for
`float64`, the runtime has no kernels. A model of mixed precision has float32 weights,
and is told to compute in float32 meanwhile. Of one with other weights or inputs, a copy
is made.
"""

from __future__ import annotations

import contextlib
import dataclasses

import keras
import numpy as np

from scl_keras.conversion.copying import copy_graph
from scl_keras.conversion.strip import can_be_stripped, stripped
from scl_keras.export.outcome import ExportError
from scl_keras.export.precisions import FLOAT32
from scl_keras.export.reference import Reference, named_function
from scl_keras.graph.walking import is_graph, walk_inside
from scl_keras.masks.mask import split_masks

# By how much of itself a number is rounded at most.
_ROUNDING = {"bfloat16": 2.0**-8, "float16": 2.0**-11, "float64": 2.0**-24}

# Roundings of n operations, one after the other, add up to about sqrt(n) of one.
_DEPTH = 1024


class InFloat32:
    """A model that computes in float32 what another computes in its own float types.

    A context manager, which may be entered several times: within, `model` computes in
    float32, and it is the default type of Keras.

    Args:
        original: A Keras model; one of float32 is `model` itself.

    Attributes:
        original: The model.
        model: The same object, or a copy.
        types: Names of the other float types, sorted.

    Raises:
        ExportError: If it can't be rebuilt.
    """

    def __init__(self, original: keras.Model):
        self.original = self.model = original
        self._stack = contextlib.ExitStack()
        built = isinstance(original, keras.Model) and original.built
        self.types = sorted(_types_computed(original) if built else ())
        if self.types and _types_held(original):
            self.model = _copy(original)

    def __enter__(self) -> InFloat32:
        with contextlib.ExitStack() as stack:
            stack.enter_context(_default_float32())
            if self.types and self.model is self.original:
                stack.enter_context(_policies_of_float32(self.model))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def compared(self, reference: Reference, tolerance: float | None) -> Reference:
        """Compares the model in float32 with the original, which is to be itself again.

        Args:
            reference: What `model` computes in float32.
            tolerance: What the caller allows, or None.

        Returns:
            The reference, with a note if the original is another one.

        Raises:
            ExportError: If they differ by more than the rounding of the original's
                types explains, and by more than `tolerance`.
        """
        if not self.types:
            return reference
        rounding = max(_ROUNDING.get(name, 0.0) for name in self.types)
        allowed = max(_DEPTH**0.5 * rounding, FLOAT32.tolerance, tolerance or 0.0)
        off = _difference(self.original, reference)
        types = " and ".join(self.types)
        if not off <= allowed:  # NaN is wrong as well
            raise ExportError(
                f"The model computes in {types}, and files compute in float32. "
                "Rebuilt in float32, it computes something else on the samples; "
                "nothing was written. If float32 is right, build the model in float32 "
                "and give it these weights, or let `tolerance` allow it. Received: a "
                f"difference of {off:.2g} of the largest output, where "
                f"{allowed:.2g} is allowed"
            )
        note = (
            f"The Keras model computes in {types}, the file as it does in float32: "
            f"they differ by {off:.1e} of the largest output on the samples."
        )
        return dataclasses.replace(reference, notes=(*reference.notes, note))


def _types_computed(model: keras.Model) -> set[str]:
    """The float types that layers compute in or hold, other than float32."""
    names = {x.compute_dtype for x in walk_inside(model)} | _types_held(model)
    return {name for name in names if _is_other(name)}


def _types_held(model: keras.Model) -> set[str]:
    """The float types of weights and inputs, other than float32."""
    weights, _ = split_masks(model.weights)
    names = {w.dtype for w in weights}
    names |= {x.dtype for x in getattr(model, "inputs", None) or ()}
    return {name for name in names if _is_other(name)}


def _is_other(name: str) -> bool:
    return keras.backend.is_float_dtype(name) and name != "float32"


@contextlib.contextmanager
def _default_float32():
    floatx, policy = keras.config.floatx(), keras.config.dtype_policy()
    keras.config.set_floatx("float32")
    keras.config.set_dtype_policy("float32")
    try:
        yield
    finally:
        keras.config.set_floatx(floatx)
        keras.config.set_dtype_policy(policy)


@contextlib.contextmanager
def _policies_of_float32(model):
    before = [(layer, layer.dtype_policy) for layer in walk_inside(model)]
    try:
        for layer, _ in before:
            _compute_in_float32(layer)
        yield
    finally:
        for layer, policy in before:
            layer.dtype_policy = policy


def _compute_in_float32(layer):
    if _is_other(layer.compute_dtype):
        mode = layer.dtype_policy.quantization_mode
        layer.dtype_policy = f"{mode}_from_float32" if mode else "float32"


def _copy(model):
    """A copy with weights and inputs of float32, of a functional model."""
    try:
        if not is_graph(model):
            raise ValueError("it has a `call` of its own")
        masks = stripped(model) if can_be_stripped(model) else contextlib.nullcontext()
        with masks, _default_float32():
            copied = copy_graph(model, _all_compute_in_float32, dtype="float32")
        left = _types_computed(copied)
        if left:
            raise ValueError(f"there is {' and '.join(sorted(left))} left in the copy")
    except Exception as error:  # whatever a user's `get_config` may raise
        types = " and ".join(sorted(_types_held(model)))
        raise ExportError(
            f"Model '{model.name}' has weights or inputs of {types}, files compute in "
            "float32, and the model can't be rebuilt in float32 here; nothing was "
            "written. Build it in float32 (`keras.config.set_floatx('float32')`, "
            "`keras.config.set_dtype_policy('float32')`), give it the weights, "
            "`new.set_weights(model.get_weights())`, and export that one. "
            f"Received: {error}"
        ) from error
    return copied


def _all_compute_in_float32(layer):
    for inner in walk_inside(layer):
        _compute_in_float32(inner)


def _difference(original, reference):
    """The largest difference on the samples, as a share of the largest output."""
    serve = named_function(original, reference.structure)
    found = []
    for batch in reference.batches:
        if batch.shuffled:
            continue
        answers = serve(*map(keras.ops.convert_to_tensor, batch.inputs.values()))
        for name, expected in batch.outputs.items():
            if expected.dtype.kind != "f":  # a class may be another one, rightly
                continue
            wide = keras.ops.convert_to_numpy(answers[name]).astype("float64")
            scale = np.abs(expected).max(initial=0.0) or 1.0
            found.append(np.abs(wide - expected).max(initial=0.0) / scale)
    return float(np.max(found, initial=0.0))  # NaN if there is one
