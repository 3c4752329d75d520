"""What Keras computes on the caller's samples: every file must compute the same."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from scl_keras.export.names import file_names
from scl_keras.export.samples import Samples, leaf_names, read_samples
from scl_keras.graph.states import from_initial_states

_Serve = Callable[..., dict[str, Any]]

# Several samples at once, to see that the file can be resized, and few enough
# that the activations of a large network fit into memory.
_LARGE_BATCH = 32

# For threads to share: more than there are, and no multiple.
_FEW = 5


@dataclasses.dataclass(frozen=True)
class Batch:
    """Inputs, and what Keras answers to them.

    Attributes:
        inputs: Arrays by the names of the model's inputs.
        outputs: Arrays by the names of its outputs.
        shuffled: Whether the inputs are shuffled samples (see `_shuffle`). These check
            the file, but don't count in the figures of the report.
        first: The index of the batch's first sample; None where its samples are in
            another batch as well.
    """

    inputs: Mapping[str, np.ndarray]
    outputs: Mapping[str, np.ndarray]
    shuffled: bool = False
    first: int | None = None

    @property
    def size(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))

    def __str__(self) -> str:
        return f"{'shuffled inputs, ' if self.shuffled else ''}batch of {self.size}"


@dataclasses.dataclass(frozen=True)
class Reference:
    """A model and its answers on the samples.

    Attributes:
        model: The model as the caller gave it.
        structure: How it nests its inputs: a tensor, or a list or dict of them, with
            None for each optional one that the samples leave out.
        samples: Number of samples.
        signature: The others one after the other, with the names that files have.
        batches: The samples one alone, a few at once, then all in larger batches, then
            shuffled ones. Of a fixed batch size, all batches but the shuffled one are
            alike.
        few: Indices of the batches that are enough for a brief run: a few at once, then
            one alone, so that a file is made larger first and smaller again.
        notes: Sentences for the report.
    """

    model: keras.Model
    structure: Any
    samples: int
    signature: tuple[tf.TensorSpec, ...]
    batches: tuple[Batch, ...]
    few: tuple[int, ...]
    notes: tuple[str, ...] = ()

    def scale(self, output: str, shuffled: bool = False) -> float:
        """Returns the largest absolute value of an output, over all batches."""
        arrays = [b.outputs[output] for b in self.batches if b.shuffled == shuffled]
        # Integers and booleans too: as float64 they are compared exactly.
        wide = [array.astype(np.float64) for array in arrays]
        return max(float(np.abs(a[np.isfinite(a)]).max(initial=0.0)) for a in wide)


def build_reference(model: keras.Model, samples: Samples) -> Reference:
    """Checks model and samples, and runs the samples through Keras.

    Args:
        model: A built Keras model.
        samples: Arrays with a leading batch axis (see `read_samples`).

    Returns:
        The model and its answers.

    Raises:
        ValueError: If the model is not built, or the samples do not fit it,
            are empty, or hold (or lead to) NaN.
    """
    if not isinstance(model, keras.Model):
        raise ValueError(
            f"`model` must be a keras.Model. Received: model={model!r} of type "
            f"{type(model).__name__}"
        )
    if not model.built:
        raise ValueError(
            "`model` must be built: give it an Input, or call it on data once. "
            f"Received: model={model.name!r}, which has no weights yet"
        )
    inputs = read_samples(model, samples)
    serve = named_function(model, inputs.structure)
    with from_initial_states(model):  # as files do
        batches = tuple(_run(serve, inputs.signature, inputs.arrays))
    few = (1, 0) if inputs.signature[0].shape[0] is None else (0,)
    count = len(inputs.arrays[0])
    return Reference(model, inputs.structure, count, inputs.signature, batches, few)


def named_function(model: keras.Model, structure: Any) -> _Serve:
    """Returns a model as a function of its inputs one by one, with named outputs.

    Without it, the order of the inputs of a TFLite file is up to the
    converter, and samples could only be matched to inputs by guessing.
    """

    def serve(*inputs):
        given = iter(inputs)
        leaves = keras.tree.flatten(structure)
        flat = [None if leaf is None else next(given) for leaf in leaves]
        nested = keras.tree.pack_sequence_as(structure, flat)
        outputs = model(nested, training=False)
        names = file_names(leaf_names(outputs, "output"), "output")
        return dict(zip(names, keras.tree.flatten(outputs), strict=True))

    return serve


def _run(
    serve: _Serve, specs: Sequence[tf.TensorSpec], arrays: Sequence[np.ndarray]
) -> Iterator[Batch]:
    """Yields a sample alone, a few, then all in larger batches, then shuffled ones.

    With a fixed batch size, all are in batches of that size.
    """
    count = len(arrays[0])
    fixed = specs[0].shape[0]
    if fixed is not None:
        if count < fixed:
            raise ValueError(
                f"`samples` must hold at least one batch of the model's fixed batch "
                f"size {fixed}. Received: {count} samples"
            )
        starts = range(0, count - fixed + 1, fixed)
        cuts = [slice(start, start + fixed) for start in starts]
    else:
        rows = np.arange(max(count, _FEW)) % count  # fewer are repeated
        arrays = [array[rows] for array in arrays]
        cuts = [slice(0, 1), slice(0, _FEW)]
        starts = range(0, len(rows), _LARGE_BATCH)
        cuts += [slice(start, start + _LARGE_BATCH) for start in starts]
    for position, cut in enumerate(cuts):
        repeated = fixed is None and position < 2  # by the larger batches
        first = None if repeated else cut.start
        yield _answer(serve, specs, [array[cut] for array in arrays], first=first)
    mixed = _shuffle([array[cuts[-1]] for array in arrays])
    batch = _answer(serve, specs, mixed, shuffled=True)
    # Unlike the samples, these may lead to NaN: then they are of no use.
    if all(_finite(output) for output in batch.outputs.values()):
        yield batch


def _answer(
    serve: _Serve,
    specs: Sequence[tf.TensorSpec],
    arrays: list[np.ndarray],
    shuffled: bool = False,
    first: int | None = None,
) -> Batch:
    outputs = {
        name: keras.ops.convert_to_numpy(output)
        for name, output in serve(*map(tf.constant, arrays)).items()
    }
    for name, output in outputs.items():
        if not shuffled and np.isnan(output.astype(np.float64)).any():
            raise ValueError(
                "The model must compute numbers on `samples`, to have something to "
                f"compare the file with. Received: NaN in {name!r}"
            )
    names = [spec.name for spec in specs]
    return Batch(dict(zip(names, arrays, strict=True)), outputs, shuffled, first)


def _shuffle(arrays: list[np.ndarray]) -> list[np.ndarray]:
    """Shuffles the values within each floating-point sample.

    Real samples hide wrong weights behind inputs that are always zero (the
    border of a digit). Shuffled values stay in the range the model expects.
    """
    rng = np.random.default_rng(0)
    shuffled = []
    for array in arrays:
        if array.dtype.kind == "f":
            rows = rng.permuted(array.reshape(len(array), -1), axis=1)
            array = rows.reshape(array.shape)
        shuffled.append(array)
    return shuffled


def _finite(array: np.ndarray) -> bool:
    return bool(np.isfinite(array.astype(np.float64)).all())
