"""The data that some methods need, as batches that fit the model."""

import itertools
from collections.abc import Iterator

import keras
import numpy as np

from scl_keras import checks
from scl_keras.batches import split

# `tf.data.INFINITE_CARDINALITY` and `tf.data.UNKNOWN_CARDINALITY`
_NO_LENGTH = {-1: "repeats forever", -2: "doesn't tell its length"}


def with_end(data, steps):
    """Data that end, and can be gone over several times.

    Args:
        data: As for `batches_of`, or without an end where `steps` is given.
        steps: Number of batches to take at most, or None for all.

    Returns:
        What `batches_of` takes. The batches of an iterator, such as a generator, are
        kept.

    Raises:
        ValueError: If it is something else, or may have no end and `steps` is None.
    """
    if steps is not None:
        wanted = "a whole number >= 1, or None for all batches"
        steps = checks.integer("steps", steps, wanted, least=1)
    if not isinstance(data, (tuple, keras.utils.PyDataset)) and not hasattr(
        data, "__iter__"
    ):
        wanted = "`(x, y)` arrays, or an iterable of such batches"
        raise checks.refusal("data", data, wanted)
    if steps is None and (reason := _why_endless(data)):
        raise ValueError(
            f"`data` {reason}: give `steps`, the number of batches to take of it. "
            f"Received: data={checks.short(data)}"
        )
    if isinstance(data, Iterator):
        return list(itertools.islice(data, steps))
    return data if steps is None else _First(data, steps)


def _why_endless(data):
    """What tells that data may have no end, or None."""
    if isinstance(data, keras.utils.PyDataset):
        return "has no end" if data.num_batches is None else None
    cardinality = getattr(data, "cardinality", None)  # of a `tf.data.Dataset`
    if cardinality is not None:
        return _NO_LENGTH.get(int(cardinality()))
    return None if hasattr(data, "__len__") else "doesn't tell its length"


class _First:
    """The first batches of data, as often as they are asked for."""

    def __init__(self, data, steps):
        self.data, self.steps = data, steps

    def __len__(self):
        return self.steps

    def __iter__(self):
        return itertools.islice(split(self.data), self.steps)


def batches_of(data, model):
    """Iterates over data in batches, and checks them against a model.

    Args:
        data: A tuple of arrays `(x, y)` or `(x, y, sample_weight)`, which is taken in
            batches of 256; or an iterable of such batches: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a list. `x` and `y` may be nested as for `fit`.
        model: A functional model.

    Yields:
        `(x, y, sample_weight, size)`, with the number of samples `size`.

    Raises:
        ValueError: If there is nothing in it, or it doesn't fit.
    """
    empty = True
    for batch in split(data):
        x, y, sample_weight = _unpacked(batch)
        if y is None:
            raise ValueError(
                "`data` must have inputs and targets: `(x, y)`, or batches of them. "
                f"Received a batch of inputs alone, of shape {_shapes(x)}"
            )
        size = _check(x, y, sample_weight, model)
        empty = False
        yield x, y, sample_weight, size
    if empty:
        raise ValueError(
            "`data` is empty: it has no batch to compute gradients on. "
            f"Received: data={checks.short(data)}"
        )


def _unpacked(batch):
    if isinstance(batch, (tuple, list)) and not 1 <= len(batch) <= 3:
        raise ValueError(
            "`data` must be `(x, y)` or `(x, y, sample_weight)`, or batches of these. "
            f"Received {len(batch)} in the place of two or three"
        )
    return keras.utils.unpack_x_y_sample_weight(batch)


def _check(x, y, sample_weight, model):
    names = [tensor.name for tensor in model.inputs]
    if isinstance(x, dict) and set(x) >= set(names):
        given = [x[name] for name in names]
    else:
        given = keras.tree.flatten(x)
    wanted = [tuple(tensor.shape) for tensor in model.inputs]
    shapes = [tuple(np.shape(a)) for a in given]
    if len(shapes) != len(wanted) or not all(map(_fits, shapes, wanted)):
        raise ValueError(
            f"`data` doesn't fit model '{model.name}', whose inputs have the shapes "
            f"{wanted}. Received inputs of the shapes {shapes}"
        )
    dtypes = [tensor.dtype for tensor in model.inputs]
    texts = [a for a, dtype in zip(given, dtypes, strict=True) if dtype != "string"]
    for array in [*texts, *keras.tree.flatten(y)]:
        if (kind := np.asarray(array).dtype).kind in "OSU":
            raise ValueError(
                "`data` must hold numbers: turn texts and other objects into them "
                f"first, with `keras.layers.StringLookup` for example. Received: {kind}"
            )
    sizes = {np.shape(a)[0] for a in keras.tree.flatten((x, y)) if np.ndim(a)}
    if sample_weight is not None:
        sizes |= {np.shape(a)[0] for a in keras.tree.flatten(sample_weight)}
    if len(sizes) != 1:
        raise ValueError(
            "`data` must have as many targets as inputs. Received: inputs of shapes "
            f"{_shapes(x)}, targets of shapes {_shapes(y)}"
        )
    return sizes.pop()


def _fits(shape, wanted):
    """Whether a shape is one's own, or Keras makes it so: it adds or takes a last 1."""
    if len(shape) == len(wanted) + 1 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) == len(wanted) - 1 and wanted[-1] == 1:
        shape = (*shape, 1)
    return len(shape) == len(wanted) and all(
        a in (None, b) for a, b in zip(wanted, shape, strict=True)
    )


def _shapes(x):
    return keras.tree.map_structure(lambda a: tuple(np.shape(a)), x)
