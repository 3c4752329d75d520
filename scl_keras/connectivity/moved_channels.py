"""Channels whose entries are only moved, repeated or left out: reshaped, say."""

import keras
import numpy as np

from scl_keras.connectivity.channels import ChannelClasses, Channels


def moved_channels(
    classes: ChannelClasses, call, xs: list, axis: int | None = None
) -> list | None:
    """What a call does to entries it does to their channels' ids, too.

    Where a channel of the output has entries of several of the input's, these become
    one class: of the reshapes that make pixels of channels (PixelShuffle), and of a
    dense layer's units an image.

    It is for calls that keep the order of the entries that stay, whichever classes go:
    those of an output along any axis, or along `axis`.
    """
    if len(call.inputs) != 1:
        return None
    ids = _moved(call, xs[0])
    axes = reversed(range(1, ids.ndim)) if axis is None else [axis]
    rows = {axis: _rows(ids, axis) for axis in axes}
    for along, row in rows.items():
        if (row == row[:, :1]).all():
            return [Channels(along, row[:, 0])]
    counts = {along: len(_merged(row)) for along, row in rows.items()}
    best = max(counts, key=lambda along: counts[along], default=0)
    if counts.get(best, 0) < 2:
        return None
    for row in rows[best]:
        unique = np.unique(row)
        classes.unite(np.repeat(unique[:1], len(unique)), unique)
    return [Channels(best, rows[best][:, 0])]


def _moved(call, channels):
    """The ids of the channels that each entry of the output comes from."""
    (source,) = call.inputs
    shape = [-1 if axis == channels.axis else 1 for axis in range(len(source.shape))]
    ids = np.broadcast_to(channels.ids.reshape(shape), source.shape)
    ids = keras.ops.convert_to_tensor(ids, "int32")
    args, kwargs = keras.tree.map_structure(
        lambda x: ids if isinstance(x, keras.KerasTensor) else x,
        (call.args, call.kwargs),
    )
    return keras.ops.convert_to_numpy(call.operation.call(*args, **kwargs))


def _rows(ids, axis):
    return np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)


def _merged(rows):
    """The sets of ids that are left if all in a row become one class."""
    merged: list[set] = []
    for row in {tuple(np.unique(row)) for row in rows}:
        met = [ids for ids in merged if not ids.isdisjoint(row)]
        merged = [ids for ids in merged if ids.isdisjoint(row)]
        merged.append(set(row).union(*met))
    return merged
