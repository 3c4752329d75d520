"""What operations of `keras.ops` do to channels, and what they become with fewer."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from scl_keras.connectivity import operations
from scl_keras.connectivity.channel_rules import (
    joined_channels,
    same_channels_along_axis,
    united_channels,
)
from scl_keras.connectivity.channels import ChannelClasses, Channels, channel_axis
from scl_keras.connectivity.moved_channels import moved_channels


@dataclasses.dataclass(frozen=True)
class OperationRule:
    """What is known of the channels of an operation.

    Attributes:
        channels: As `LayerRule.channels`.
        smaller: `smaller(call, axis, kept, parts)`: the function to call instead, with
            the same arguments, where channels go. `kept` is a boolean array of its
            input's channels along `axis`, and `parts` a list of such arrays, one for
            each of its outputs, and of their axes, as pairs. By default the operation
            does for any number of channels.
    """

    channels: Callable
    smaller: Callable | None = None


def operation_rule(operation: keras.Operation) -> OperationRule | None:
    """What is known of the channels of an operation of `keras.ops`; None if nothing."""
    known = operations.operation_stand_in(operation)
    if known is operations.elementwise:
        return _ELEMENTWISE
    return _rules.get(known and type(operation).__name__)


def _elementwise(classes: ChannelClasses, call, xs: list) -> list | None:
    """Elementwise functions, with numbers as other arguments."""
    values = keras.tree.flatten((call.args, call.kwargs))
    constants = [x for x in values if not isinstance(x, keras.KerasTensor)]
    if any(getattr(x, "shape", ()) for x in constants):
        return None
    return united_channels(classes, call, xs)


def _split(classes: ChannelClasses, call, xs: list) -> list | None:
    """Parts of the channels, or of all of them along another axis."""
    (x,), rank = xs, len(call.inputs[0].shape)
    if call.operation.axis % rank != x.axis:
        return xs * len(call.outputs)
    ends = np.cumsum([out.shape[x.axis] for out in call.outputs])
    return [Channels(x.axis, part) for part in np.split(x.ids, ends[:-1])]


def _smaller_split(call, axis, kept, parts):
    if call.operation.axis % len(call.inputs[0].shape) != axis:
        return call.operation
    ends = np.cumsum([part.sum() for part, _ in parts])
    return lambda x: ops.split(x, ends[:-1].tolist(), axis=axis)


def _reduced(classes: ChannelClasses, call, xs: list) -> list | None:
    """A sum, a mean, ... over other axes than that of the channels."""
    (x,), (source,), operation = xs, call.inputs, call.operation
    rank, axes = len(source.shape), operation.axis
    if axes is None:
        return None
    axes = axes if isinstance(axes, (list, tuple)) else [axes]
    axes = {axis % rank for axis in axes}
    if x.axis in axes or 0 in axes:
        return None
    before = 0 if operation.keepdims else sum(axis < x.axis for axis in axes)
    return [Channels(x.axis - before, x.ids)]


def _padded(classes: ChannelClasses, call, xs: list) -> list | None:
    """Padding along other axes."""
    x, source, out = xs[0], call.inputs[0], call.outputs[0]
    alone = len(xs) == 1 and out.shape[x.axis] == source.shape[x.axis]
    return xs if alone else None


def _shuffled(classes: ChannelClasses, call, xs: list) -> list | None:
    """Pixels become channels, or channels pixels: blocks are as large as before."""
    axis = channel_axis(call.operation, len(call.outputs[0].shape))
    return moved_channels(classes, call, xs, axis) if xs[0].axis == axis else None


def _smaller_reshape(call, axis, kept, parts):
    ((part, at),) = parts
    return lambda x: ops.reshape(
        x, with_size(call.operation.newshape, at, int(part.sum()))
    )


def with_size(shape: tuple, axis: int, size: int) -> tuple:
    """A shape to reshape to with another size, unless that is inferred (-1)."""
    if shape[axis] == -1:
        return tuple(shape)
    return (*shape[:axis], size, *shape[axis + 1 :])


def _sliced(classes: ChannelClasses, call, xs: list) -> list | None:
    """`x[..., a:b]`: some of the channels, or of all of them along other axes."""
    if len(call.inputs) != 1 or _key_of_channels(call, xs[0].axis) is None:
        return None
    return moved_channels(classes, call, xs)


def _key_of_channels(call, axis):
    """Place in the key, and the slice, of an axis; None if it is another kind of key.

    All of the channels in steps or backwards wouldn't be the same of fewer.
    """
    key = _key(call)
    rank = len(call.inputs[0].shape)
    if not all(x is None or x is ... or isinstance(x, (int, slice)) for x in key):
        return None
    place = 0
    for i, x in enumerate(key):
        size = rank - sum(y is not None for y in key) + 1 if x is ... else 1
        if x is not None and place <= axis < place + size:
            if x is ...:
                return i, slice(None)
            steps = isinstance(x, slice) and x.step in (None, 1)
            return (i, x) if steps else None
        place += 0 if x is None else size
    return len(key), slice(None)


def _key(call):
    key = call.kwargs["key"] if "key" in call.kwargs else call.args[1]
    return tuple(key) if isinstance(key, (list, tuple)) else (key,)


def _smaller_slice(call, axis, kept, parts):
    place, part = _key_of_channels(call, axis)
    if part == slice(None):
        return call.operation
    start, stop, _ = part.indices(len(kept))
    left = slice(int(kept[:start].sum()), int(kept[:stop].sum()))
    key = (*_key(call)[:place], left, *_key(call)[place + 1 :])
    return lambda x, *args, **kwargs: x[key]


# These keep the order of all that is left, since they neither split nor join axes.
_MOVE = "Transpose Moveaxis Swapaxes Squeeze ExpandDims Flip"
_REDUCE = "Sum Mean Max Amax Min Amin Prod Logsumexp Std Var Median"
_ELEMENTWISE = OperationRule(_elementwise)
_rules = {
    "Split": OperationRule(_split, _smaller_split),
    "Concatenate": OperationRule(joined_channels),
    "Reshape": OperationRule(moved_channels, _smaller_reshape),
    "GetItem": OperationRule(_sliced, _smaller_slice),
    "DepthToSpace": OperationRule(_shuffled),
    "SpaceToDepth": OperationRule(_shuffled),
    "Pad": OperationRule(_padded),
    "Resize": OperationRule(same_channels_along_axis),
    **dict.fromkeys(_MOVE.split(), OperationRule(moved_channels)),
    **dict.fromkeys(_REDUCE.split(), OperationRule(_reduced)),
}
