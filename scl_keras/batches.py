"""Data of all kinds that `fit` takes, batch by batch."""

import itertools

import keras
import numpy as np

BATCH_SIZE = 256


def split(data, batch_size=BATCH_SIZE):
    """Goes over data once.

    Args:
        data: A tuple of arrays, nested as for `fit`; or what gives batches: a
            `tf.data.Dataset`, a `keras.utils.PyDataset`, a `DataLoader`, a list.
        batch_size: Samples a batch, of arrays.

    Returns:
        An iterator over the batches, as the data give them.

    Raises:
        ValueError: If a tuple has something else than arrays.
    """
    if isinstance(data, keras.utils.PyDataset):
        numbers = itertools.count() if data.num_batches is None else data.num_batches
        numbers = range(numbers) if isinstance(numbers, int) else numbers
        return (data[i] for i in numbers)
    if hasattr(data, "as_numpy_iterator"):  # a `tf.data.Dataset`
        return data.as_numpy_iterator()
    if not isinstance(data, tuple):
        return iter(data)
    arrays = [a for a in keras.tree.flatten(data) if a is not None]
    if not all(np.ndim(a) for a in arrays):  # lists are nests of inputs, as for `fit`
        raise ValueError(
            "`data` must be arrays, `(x, y)` or `(x, y, sample_weight)`, or an "
            "iterable of such batches. Received a tuple with "
            f"{next(a for a in arrays if not np.ndim(a))!r}"
        )
    length = max(map(len, arrays), default=0)
    return (_slice(data, i, i + batch_size) for i in range(0, length, batch_size))


def _slice(data, start, stop):
    return keras.tree.map_structure(
        lambda a: None if a is None else a[start:stop], data
    )
