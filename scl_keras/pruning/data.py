"""The data that some methods need, as batches that fit the model."""

import keras
import numpy as np

BATCH_SIZE = 256
_INFINITE = -1  # tf.data.INFINITE_CARDINALITY


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
        ValueError: If there is nothing in it, no end to it, or it doesn't fit.
    """
    cardinality = getattr(data, "cardinality", None)  # of a `tf.data.Dataset`
    if cardinality is not None and int(cardinality()) == _INFINITE:
        raise ValueError(
            "`data` repeats forever. Give a part of it, such as `data.take(10)`."
        )
    empty = True
    for batch in _split(data):
        x, y, sample_weight = keras.utils.unpack_x_y_sample_weight(batch)
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
            "`data` is empty. What can be iterated over only once, such as a "
            f"generator, can't be used in several rounds. Received: data={data!r}"
        )


def _split(data):
    if isinstance(data, keras.utils.PyDataset):
        return (data[i] for i in range(data.num_batches))
    if hasattr(data, "as_numpy_iterator"):  # a `tf.data.Dataset`
        return data.as_numpy_iterator()
    if not isinstance(data, tuple):
        return iter(data)
    arrays = keras.tree.flatten(data)
    length = max((len(a) for a in arrays if a is not None), default=0)
    return (_slice(data, start) for start in range(0, length, BATCH_SIZE))


def _slice(data, start):
    return keras.tree.map_structure(
        lambda a: None if a is None else a[start : start + BATCH_SIZE], data
    )


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
