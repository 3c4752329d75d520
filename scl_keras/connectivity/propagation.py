"""The two passes over a graph's steps: what its inputs reach, what its outputs need."""

from typing import Any

import numpy as np
from keras import ops

from scl_keras import backend
from scl_keras.connectivity.composites import binary, positive
from scl_keras.connectivity.operations import is_product


class Propagation:
    """Goes forwards over steps, and then backwards over the same.

    Args:
        masks: Dict of arrays by pairs of a layer's id and the name of a kernel,
            non-zero where a connection is kept. Kernels that aren't there are read.
        constants: As for `ConnectionGraph.spread`.

    Attributes:
        reached: 0/1 tensors by the ids of the graph's tensors.
        needed: The same backwards; tensors that no output needs have no entry.
        used: Boolean NumPy arrays, with the keys of `masks`: the connections that lead,
            kept or not, from what is reached to what is needed.
    """

    def __init__(self, masks: dict, constants: dict | None = None) -> None:
        self._masks, self._constants = masks, constants
        self.reached: dict[int, Any] = {}
        self.needed: dict[int, Any] = {}
        self.used: dict[tuple[int, str], np.ndarray] = {}
        self._silent: dict[int, Any] = {}  # where products are zero for any input
        self._done: list[tuple] = []  # pairs of a step and its gradient function

    def forwards(self, steps, inputs, sources=()):
        """Finds what is reached.

        Args:
            steps: List of `Step`, in the order of the graph.
            inputs: The graph's inputs.
            sources: As for `ConnectionGraph.spread`.
        """
        self.reached |= _ones(inputs)
        for step in steps:
            self._done.append((step, self._step_forwards(step)))
            if id(step.call) in sources:
                self.reached |= _ones(step.call.outputs)

    def backwards(self, outputs):
        """Finds what is needed for the graph's outputs, after `forwards`."""
        self.needed |= _ones(outputs)
        while self._done:
            # Popped, since each of them holds its step's kernels as floats.
            self._step_backwards(*self._done.pop())

    def _step_forwards(self, step):
        """Makes a step, and returns its gradient function."""
        layer = step.call.operation
        xs = [self.reached[id(x)] for x in step.call.inputs]
        kernels = [self._mask(layer, name) for layer, name in step.kernels]
        # Cast by the backend: several times faster than a conversion with a dtype.
        kernels = [ops.cast(ops.convert_to_tensor(x), "float32") for x in kernels]
        ys, pullback = backend.vjp(step.function, xs, kernels)
        for out, y in zip(step.call.outputs, ys, strict=True):
            if tuple(y.shape) != tuple(out.shape):
                raise ValueError(
                    f"The `reach` of layer '{layer.name}' ({type(layer).__name__}) "
                    f"must return the output's shape {out.shape}. "
                    f"Received: {tuple(y.shape)}"
                )
            self.reached[id(out)] = binary(y)
        if self._constants is not None and is_product(layer):
            (out,) = step.call.outputs
            silent = self._silent[id(out)] = self._zeros_of_product(step.call)
            self.reached[id(out)] = self.reached[id(out)] * (1 - silent)
        return pullback

    def _mask(self, layer, name):
        key = id(layer), name
        if key in self._masks:
            return self._masks[key]
        return ops.convert_to_numpy(getattr(layer, name)) != 0

    def _zeros_of_product(self, call):
        """Where a factor is zero for any input: a 0/1 tensor of the product's shape."""
        zero = np.zeros(call.outputs[0].shape, "float32")
        for x in call.inputs:
            free = ops.convert_to_numpy(self.reached[id(x)]) > 0
            zero = np.maximum(zero, ~free & (self._constants[id(x)] == 0))
        return ops.convert_to_tensor(zero, "float32")

    def _step_backwards(self, step, pullback):
        """Writes down which inputs and connections of a step reach an output."""
        needed, outputs = self.needed, step.call.outputs
        if not any(id(out) in needed for out in outputs):
            return
        for out in outputs:
            if id(out) in self._silent and id(out) in needed:
                needed[id(out)] = needed[id(out)] * (1 - self._silent[id(out)])
        asked = [
            needed[id(out)] if id(out) in needed else ops.zeros(out.shape, "float32")
            for out in outputs
        ]
        of_inputs, of_kernels = pullback(asked)
        for x, gradient in zip(step.call.inputs, of_inputs, strict=True):
            found = binary(gradient)
            before = needed.get(id(x))
            needed[id(x)] = found if before is None else ops.maximum(before, found)
        for (layer, name), gradient in zip(step.kernels, of_kernels, strict=True):
            key = id(layer), name
            found = ops.convert_to_numpy(positive(gradient))
            self.used[key] = self.used[key] | found if key in self.used else found


def _ones(tensors):
    return {id(x): ops.ones(x.shape, "float32") for x in tensors}
