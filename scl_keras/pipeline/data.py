"""Data of any kind that `fit` takes, and what else has to be known of them."""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np

from scl_keras import checks
from scl_keras.batches import split

_INFINITE = -1  # `tf.data.INFINITE_CARDINALITY`


class Data:
    """Data to train on, or to validate on.

    Args:
        data: A tuple `(x, y)` or `(x, y, sample_weight)` of arrays (or nested arrays),
            or what gives batches of such tuples again and again: a `tf.data.Dataset`, a
            `keras.utils.PyDataset`, a PyTorch `DataLoader`.
        batch_size: Samples a batch, of arrays.
        name: Of the argument, for errors.

    Raises:
        ValueError: If it is something else, empty, or without an end, or of arrays of
            differing lengths.
    """

    def __init__(self, data: Any, batch_size: int, name: str) -> None:
        self._data, self._batch_size, self.name = data, batch_size, name
        self.is_arrays = isinstance(data, (tuple, list))
        if self.is_arrays and len(data) not in (2, 3):
            raise ValueError(
                f"`{name}` must be a pair `(x, y)`, or a triple with sample weights. "
                f"Received: a {type(data).__name__} of {len(data)}"
            )
        once = hasattr(data, "__next__")
        has_batches = hasattr(data, "__iter__") or hasattr(data, "__getitem__")
        has_batches &= not isinstance(data, (str, bytes)) and not hasattr(data, "shape")
        if not self.is_arrays and (once or not has_batches):
            raise ValueError(
                f"`{name}` must be a pair `(x, y)` of arrays, or give its batches as "
                "often as asked, as a `tf.data.Dataset`, a `keras.utils.PyDataset` and "
                f"a `DataLoader` do. Received: {type(data).__name__}"
                f"{', which is read only once' if once else ''}"
            )
        if self.is_arrays:
            self._check_lengths()
        if _is_endless(data):
            raise ValueError(
                f"`{name}` repeats forever, and an epoch needs an end: leave out "
                "`.repeat()`, or take some batches, `data.take(100)`; have "
                "`num_batches` of a `PyDataset` tell how many there are. "
                f"Received: {checks.short(data)}"
            )
        self.steps = self._count()
        if not self.steps:
            raise ValueError(f"`{name}` is empty: it has no batch.")

    def training(self) -> dict[str, Any]:
        """What `fit` is called with to train on these data."""
        # What shuffles by itself has Keras warn where it is told to.
        by_itself = not self.is_arrays and not _is_py_dataset(self._data)
        return self.arguments() | ({"shuffle": False} if by_itself else {})

    def arguments(self) -> dict[str, Any]:
        """What `evaluate` is called with."""
        if not self.is_arrays:
            return {"x": self._data}
        names = ("x", "y", "sample_weight")
        found = dict(zip(names, self._data, strict=False))
        return {**found, "batch_size": self._batch_size}

    def validation(self) -> dict[str, Any]:
        """What `fit` is called with to validate on these data."""
        if not self.is_arrays:
            return {"validation_data": self._data}
        size = self._batch_size
        return {"validation_data": tuple(self._data), "validation_batch_size": size}

    def batches(self) -> Iterator[tuple[Any, Any, Any]]:
        """Inputs, targets, and weights or None, batch by batch, as NumPy arrays."""
        for batch in self._raw_batches():
            if not isinstance(batch, (tuple, list)) or len(batch) < 2:
                raise ValueError(
                    f"`{self.name}` must give pairs of inputs and targets. Received: "
                    f"batches of type {type(batch).__name__}"
                )
            x, y, weight = (*batch, None)[:3]
            x, y = (keras.tree.map_structure(_as_array, part) for part in (x, y))
            if weight is not None:
                weight = keras.tree.map_structure(_as_array, weight)
            yield x, y, weight

    def first(self, count: int) -> tuple[Any, Any]:
        """The first `count` samples, or all if there are fewer: inputs and targets."""
        taken: list[tuple[Any, Any]] = []
        for x, y, _ in self.batches():
            taken.append((x, y))
            if sum(map(_length, taken)) >= count:
                break
        joined = keras.tree.map_structure(lambda *a: np.concatenate(a)[:count], *taken)
        return joined[0], joined[1]

    def _raw_batches(self):
        data = tuple(self._data) if self.is_arrays else self._data
        return split(data, self._batch_size)

    def _check_lengths(self):
        leaves = [a for a in keras.tree.flatten(list(self._data)) if a is not None]
        shapes = [tuple(np.shape(array)) for array in leaves]
        if () in shapes or len({shape[0] for shape in shapes}) > 1:
            raise ValueError(
                f"The arrays of `{self.name}` must all have one row a sample, and the "
                f"same number of samples. Received: arrays of the shapes {shapes[:9]}"
            )

    def _count(self):
        if self.is_arrays:
            return -(-_length(self._data) // self._batch_size)
        if _is_py_dataset(self._data):
            return self._data.num_batches
        try:
            return len(self._data)
        except TypeError:  # a `tf.data.Dataset` whose length isn't known
            return sum(1 for _ in self._data)


def _length(structure):
    return len(keras.tree.flatten(structure)[0])


def _as_array(leaf):
    return np.asarray(keras.ops.convert_to_numpy(leaf))


def _is_endless(data):
    if _is_py_dataset(data):
        return data.num_batches is None
    cardinality = getattr(data, "cardinality", None)  # of a `tf.data.Dataset`
    return cardinality is not None and int(cardinality()) == _INFINITE


def _is_py_dataset(data):
    return isinstance(data, keras.utils.PyDataset)
