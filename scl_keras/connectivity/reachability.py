"""Which connections lie on a path from a model's inputs to its outputs."""

import dataclasses
from collections.abc import Collection, Sequence

import keras
import numpy as np
from keras import ops

from scl_keras import checks
from scl_keras.connectivity.propagation import Propagation
from scl_keras.connectivity.steps import needs_entering, steps_of
from scl_keras.graph.inputs import sized_inputs
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.tracing import trace
from scl_keras.graph.walking import is_graph, walk_inside


class ConnectionGraph:
    """A model's graph, ready to tell which of its connections are effective.

    A connection is effective if it lies on a path from an input of the model to one of
    its outputs: if, at some position, the unit that it comes from is reached from the
    inputs, and the unit that it goes to reaches an output (Vysogorets & Kempe,
    *Connectivity Matters*, arXiv 2107.02306). Paths start at the inputs and not at
    biases: a unit that only biases feed is a constant. They follow what depends on
    what: a sum or product (`Add`, `Multiply`) is reached where any of its terms is,
    maximum and mean pooling where any of their window is, and layers that normalize or
    compare several positions (`LayerNormalization`, `Softmax`) join all of them.

    All of it takes one pass forwards and one backwards over the graph, with the mask in
    the place of each kernel. Each operation starts from zeros and ones, and what it
    adds up are whole numbers, none of them negative: a sum can neither overflow, nor
    cancel, nor fade, however deep the network, and whether it is zero is exact although
    it is computed in float32.

    Recurrent layers are followed step by step from states that are zero, attention from
    its projections to what is attended to, and wrappers into what they wrap.

    Custom layers are followed into the calls that they make, if they compute with
    layers and `keras.ops` alone. Operations of which it is not known what depends on
    what count as fully connected, with all kernels inside of them, see `unknown`:
    `Lambda` with other functions, custom cells and activations, recurrent layers with
    time steps masked or with initial states, and stateful layers. `register_rule` makes
    a layer of one's own known.

    Args:
        model: A built Keras model, masked or with zeros in its kernels. Weights and
            masks are read each time, layers and shapes only once.
        input_shapes: Shapes of the inputs, without the batch axis: a tuple, or a list
            of them for several inputs, in the order of `model.inputs`. Needed where the
            model leaves sizes open, since the effective connections depend on them.

    Attributes:
        kernels: List of `scl_keras.graph.kernels.Kernel`, as of
            `prunable_kernels(model)`.
        unknown: Tuple of names of the operations that count as fully connected, such as
            `"lambda (Lambda)"`.

    Raises:
        ValueError: If the model isn't built, has a `call` of its own that can't be
            followed, or if `input_shapes` is missing or doesn't fit.

    Example:

    ```python
    graph = ConnectionGraph(model)
    masks = graph.effective()  # one boolean array a kernel, as in `graph.kernels`
    ```
    """

    def __init__(
        self, model: keras.Model, input_shapes: Sequence | None = None
    ) -> None:
        if not isinstance(model, keras.Model) or not model.built:
            raise ValueError(
                "Effective connections need a built Keras model. "
                f"Received: {model!r} (of type {type(model).__name__})"
            )
        self.kernels = prunable_kernels(model)
        sized = sized_inputs(model, input_shapes) if is_graph(model) else None
        self.trace = trace(model, sized, needs_entering)
        for call in self.trace.calls:
            if any(None in out.shape for out in call.outputs):
                raise ValueError(
                    f"The size of what '{call.operation.name}' returns isn't known "
                    f"before it runs. Received: {[out.shape for out in call.outputs]}"
                )
        self.steps = steps_of(self.trace.calls)
        # What a custom layer computes of constants, such as embeddings of positions, is
        # no path from the inputs, but part of what it does.
        followed = {id(layer) for step in self.steps for layer, _ in step.kernels}
        entered = [call.operation for call in self.trace.entered]
        inside = {id(x) for layer in entered for x in walk_inside(layer)}
        self._constants = inside - followed
        unknown = [x.unknown for x in self.steps if x.unknown]
        self.unknown = tuple(dict.fromkeys(unknown))

    def effective(self, kept: Sequence | None = None) -> list[np.ndarray]:
        """Finds the effective connections.

        Args:
            kept: List of arrays, one for each of `kernels` and of its shape, non-zero
                where a connection is kept; by default as the model has it now.

        Returns:
            A list of boolean NumPy arrays, one for each of `kernels`.
        """
        return self.spread(kept).effective

    def spread(
        self,
        kept: Sequence | None = None,
        sources: Collection[int] = (),
        constants: dict | None = None,
    ) -> "Reachability":
        """Propagates reachability forwards and backwards.

        Args:
            kept: As for `effective`.
            sources: Ids of calls whose outputs count as reached in any case.
            constants: Arrays by the ids of the graph's tensors: what they are where no
                input reaches. With them, a product leads nowhere where one of its
                factors is zero for any input.

        Returns:
            A `Reachability`.
        """
        kept = self._checked(kept)
        masks = {
            (id(kernel.layer), kernel.name): values
            for kernel, values in zip(self.kernels, kept, strict=True)
        }
        found = Propagation(masks, constants)
        found.forwards(self.steps, self.trace.inputs, sources)
        found.backwards(self.trace.outputs)
        needed_constants, usable = self._needed_constants(found.needed), []
        for kernel in self.kernels:
            use = found.used.get((id(kernel.layer), kernel.name))
            if use is None:
                use = np.full(kernel.shape, id(kernel.layer) in needed_constants)
            usable.append(use)
        effective = [k & u for k, u in zip(kept, usable, strict=True)]
        return Reachability(found.reached, found.needed, effective, usable)

    def _needed_constants(self, needed):
        """The ids of those of `_constants` in layers that anything needs."""
        return {
            id(x)
            for call in self.trace.entered
            if any(_is_anywhere(needed.get(id(out))) for out in call.outputs)
            for x in walk_inside(call.operation)
        } & self._constants

    def _checked(self, kept):
        if kept is None:
            return [kernel.kept() for kernel in self.kernels]
        if not isinstance(kept, (list, tuple)):
            raise checks.refusal("kept", kept, "a list of arrays, one for each kernel")
        kept = [np.asarray(values).astype(bool, copy=False) for values in kept]
        shapes = [kernel.shape for kernel in self.kernels]
        if [values.shape for values in kept] != shapes:
            raise ValueError(
                f"`kept` must have an array for each kernel, of shapes {shapes}. "
                f"Received: {[values.shape for values in kept]}"
            )
        return kept


def effective_masks(
    model: keras.Model, input_shapes: Sequence | None = None
) -> dict[str, np.ndarray]:
    """Finds the effective connections of a model, see `ConnectionGraph`.

    Args:
        model: A built Keras model, masked or with zeros in its kernels.
        input_shapes: Shapes of the inputs without the batch axis, where the model
            leaves sizes open.

    Returns:
        A dict of boolean NumPy arrays, each of its kernel's shape, by the kernels'
        names as in `summary`, such as `"dense_1/kernel"`.

    Raises:
        ValueError: If the model isn't built, has a `call` of its own that can't be
            followed, or if `input_shapes` is missing or doesn't fit.

    Example:

    ```python
    masks = effective_masks(model)
    sum(mask.sum() for mask in masks.values())  # number of effective connections
    ```
    """
    graph = ConnectionGraph(model, input_shapes)
    labels = [kernel.label for kernel in graph.kernels]
    return dict(zip(labels, graph.effective(), strict=True))


@dataclasses.dataclass(frozen=True)
class Reachability:
    """What is reached from the inputs, and what reaches an output.

    Attributes:
        reached: 0/1 tensors by the ids of the graph's tensors: which of their positions
            are reached from an input.
        needed: The same backwards; tensors that no output needs have no entry.
        effective: List of boolean NumPy arrays, one a kernel.
        usable: The same of connections that lead, kept or not, from what is reached to
            what is needed: kept, they are effective.
    """

    reached: dict
    needed: dict
    effective: list
    usable: list


def _is_anywhere(needed):
    return needed is not None and bool(ops.any(needed > 0))
