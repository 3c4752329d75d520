"""Which channels of a graph's tensors can only be removed together."""

import dataclasses

import keras
import numpy as np
from keras import layers

from scl_keras.connectivity import operations, stand_ins
from scl_keras.connectivity.activations import is_elementwise
from scl_keras.graph.walking import is_rewired


@dataclasses.dataclass(frozen=True)
class Channels:
    """The channels of one tensor: its slices along one axis.

    Attributes:
        axis: The axis, the batch's counted.
        ids: Array of the axis' length: the class that each slice belongs to.
    """

    axis: int
    ids: np.ndarray


class ChannelClasses:
    """Classes of channels that stay or go together, all through a graph.

    A layer with a kernel makes new channels. Elementwise layers, pooling and the like
    hand them on, so that a channel and all that is made of it are one class. A sum
    makes one class of its terms' channels, a shared layer makes one of those of all its
    calls, and `Flatten` makes a channel a whole lot of entries. Of other operations it
    isn't known whether they leave room for removing some of their inputs: these are
    pinned, and stay.

    Args:
        inputs: List of the graph's input tensors.
        calls: List of the `Call` objects, without masked layers.
        outputs: List of the graph's output tensors.
        dropped: Set of pairs of a call's id and a tensor's id: inputs that a sum shall
            not read any more.

    Attributes:
        of: `Channels` by the ids of the graph's tensors.
    """

    def __init__(self, inputs, calls, outputs, dropped=frozenset()):
        self._parents, self._pinned, self._first = [], set(), {}
        self._dropped, self.of = dropped, {}
        for x in inputs:
            self.of[id(x)] = self.pinned(x)
        for call in calls:
            self._add(call)
        for x in outputs:
            self.pin(self.of[id(x)].ids)

    def _add(self, call):
        read = [x for x in call.inputs if (id(call), id(x)) not in self._dropped]
        xs = [self.of[id(x)] for x in read]
        outputs = _rule_of(call)(self, call, xs)
        if outputs is None:
            for x in xs:
                self.pin(x.ids)
            outputs = [self.pinned(x) for x in call.outputs]
        for x, channels in zip(call.outputs, outputs, strict=True):
            self.of[id(x)] = channels
        if getattr(call.operation, "weights", None):
            self._share(call.operation, [*xs, *outputs])

    def _share(self, layer, channels):
        """All calls of a layer with weights keep the same of its channels."""
        first = self._first.setdefault(id(layer), channels)
        for a, b in zip(first, channels, strict=True):
            if len(a.ids) == len(b.ids):
                self.unite(a.ids, b.ids)
            else:
                self.pin(a.ids)
                self.pin(b.ids)

    def fresh(self, count):
        """Ids of `count` new classes."""
        first = len(self._parents)
        self._parents.extend(range(first, first + count))
        return np.arange(first, first + count)

    def pin(self, ids):
        """Keeps the classes of some ids."""
        self._pinned.update(self.roots(ids).tolist())

    def pinned(self, x):
        """New `Channels` of a tensor, along its last axis, that stay."""
        channels = Channels(len(x.shape) - 1, self.fresh(x.shape[-1] if x.shape else 1))
        self.pin(channels.ids)
        return channels

    def unite(self, a, b):
        """Makes one class of each two ids."""
        for x, y in zip(self.roots(a), self.roots(b), strict=True):
            x, y = self._root(x), self._root(y)
            self._parents[y] = x
            if y in self._pinned:
                self._pinned.add(x)

    def roots(self, ids):
        """One id for each class, in the places of all of its ids."""
        return np.array([self._root(x) for x in np.ravel(ids)], int)

    def _root(self, x):
        while self._parents[x] != x:
            self._parents[x] = x = self._parents[self._parents[x]]
        return x

    @property
    def always_kept(self):
        """Set of the classes that are pinned, by their roots."""
        return {int(self._root(x)) for x in self._pinned}


def channel_axis(layer, rank):
    """The axis of a layer's channels in tensors of a rank, the batch's axis counted."""
    return 1 if getattr(layer, "data_format", None) == "channels_first" else rank - 1


def is_plain_einsum(layer):
    """Whether an `EinsumDense` computes what a `Dense` does."""
    inputs, rest = layer.equation.replace(" ", "").replace("...", "").split(",")
    kernel, outputs = rest.split("->")
    return (
        len(kernel) == 2
        and inputs[-1:] == kernel[0]
        and outputs == inputs[:-1] + kernel[1]
        and layer.bias_axes in (None, kernel[1])
    )


def _rule_of(call):
    """`rule(classes, call, channels of the inputs)`: those of the outputs, or None."""
    operation = call.operation
    if not isinstance(operation, keras.layers.Layer):
        known = operations.operation_stand_in(operation) is operations.elementwise
        return _function if known else _nothing
    if (
        len(call.args) != 1
        or any(value is not None for value in call.kwargs.values())
        or is_rewired(operation)
    ):
        return _nothing
    return _RULES.get(type(operation), _nothing)


def _nothing(classes, call, xs):
    return None


def _produce(classes, call, xs):
    """New channels, of a layer with a kernel over all of its inputs."""
    layer, out = call.operation, call.outputs[0]
    axis = channel_axis(layer, len(out.shape))
    if getattr(layer, "groups", 1) != 1 or (
        isinstance(layer, layers.EinsumDense) and not is_plain_einsum(layer)
    ):
        return None
    if xs[0].axis != axis:
        return None
    units = classes.fresh(out.shape[axis])
    if not is_elementwise(layer.activation):
        classes.pin(units)
    return [Channels(axis, units)]


def _embed(classes, call, xs):
    classes.pin(xs[0].ids)
    return [
        Channels(
            len(call.outputs[0].shape) - 1, classes.fresh(call.operation.output_dim)
        )
    ]


def _multiply(classes, call, xs):
    """A depthwise kernel makes `depth_multiplier` channels of each."""
    layer, (x,) = call.operation, xs
    if x.axis != channel_axis(layer, len(call.outputs[0].shape)):
        return None
    if not is_elementwise(layer.activation):
        return None
    return [Channels(x.axis, np.repeat(x.ids, layer.depth_multiplier))]


def _follow(classes, call, xs):
    """The same channels, in a layer without weights."""
    activation = getattr(call.operation, "activation", None)
    return xs if is_elementwise(activation) else None


def _follow_with_weights(classes, call, xs):
    """The same channels, in a layer with a weight for each."""
    layer, (x,), rank = call.operation, xs, len(call.outputs[0].shape)
    return xs if x.axis == layer.axis % rank else None


def _follow_slopes(classes, call, xs):
    (alpha,), (x,) = call.operation.weights, xs
    return xs if alpha.shape[x.axis - 1] == len(x.ids) else None


def _follow_along_axis(classes, call, xs):
    """The same channels, in a layer that moves along the other axes."""
    (x,), out = xs, call.outputs[0]
    return xs if x.axis == channel_axis(call.operation, len(out.shape)) else None


def _pool_all(classes, call, xs):
    (x,), layer = xs, call.operation
    if x.axis != channel_axis(layer, len(call.inputs[0].shape)):
        return None
    return [Channels(x.axis if layer.keepdims else 1, x.ids)]


def _unite(classes, call, xs):
    """One class for each channel of a sum, a product, ..."""
    sizes = {(x.axis, len(x.ids)) for x in xs}
    ranks = {len(x.shape) for x in call.inputs}
    if len(sizes) > 1 or len(ranks) > 1:
        return None
    for x in xs[1:]:
        classes.unite(xs[0].ids, x.ids)
    return [xs[0]]


def _function(classes, call, xs):
    """Elementwise functions of `keras.ops`, with numbers as other arguments."""
    values = keras.tree.flatten((call.args, call.kwargs))
    constants = [x for x in values if not isinstance(x, keras.KerasTensor)]
    if any(getattr(x, "shape", ()) for x in constants):
        return None
    return _unite(classes, call, xs)


def _join(classes, call, xs):
    """Concatenation along the channels, or along another axis."""
    axis = call.operation.axis % len(call.outputs[0].shape)
    axes = {x.axis for x in xs}
    if len(axes) > 1:
        return None
    if axes == {axis}:
        return [Channels(axis, np.concatenate([x.ids for x in xs]))]
    return _unite(classes, call, xs)


def _move(classes, call, xs):
    """Layers that move entries: they do the same to the channels' ids."""
    (x,), (source,) = xs, call.inputs
    shape = [-1 if axis == x.axis else 1 for axis in range(len(source.shape))]
    ids = np.broadcast_to(x.ids.reshape(shape), source.shape)
    ids = keras.ops.convert_to_numpy(call.operation.call(ids.astype("int32")))
    for axis in reversed(range(1, ids.ndim)):
        moved = np.moveaxis(ids, axis, 0).reshape(ids.shape[axis], -1)
        if (moved == moved[:, :1]).all():
            return [Channels(axis, moved[:, 0])]
    return None


def _table(*pairs):
    return {kind: rule for rule, kinds in pairs for kind in kinds}


_named, _ranks = stand_ins.named, stand_ins.ranks
_RULES = _table(
    (_embed, [layers.Embedding]),
    (_produce, [layers.Dense, layers.EinsumDense]),
    (_produce, [*_ranks("Conv{}D"), *_ranks("Conv{}DTranspose")]),
    (_produce, _ranks("SeparableConv{}D", (1, 2))),
    (_multiply, _ranks("DepthwiseConv{}D", (1, 2))),
    (_follow, _named("Activation", "ReLU", "LeakyReLU", "ELU", "Identity")),
    (_follow, _named("Dropout", "AlphaDropout", "GaussianDropout", "GaussianNoise")),
    (_follow, [layers.ActivityRegularization, *_ranks("SpatialDropout{}D")]),
    (_follow_with_weights, [layers.BatchNormalization]),
    (_follow_slopes, [layers.PReLU]),
    (_follow_along_axis, [*_ranks("Cropping{}D"), *_ranks("ZeroPadding{}D")]),
    (_follow_along_axis, _ranks("UpSampling{}D")),
    (_follow_along_axis, [*_ranks("MaxPooling{}D"), *_ranks("AveragePooling{}D")]),
    (_follow_along_axis, _ranks("AdaptiveMaxPooling{}D")),
    (_follow_along_axis, _ranks("AdaptiveAveragePooling{}D")),
    (_pool_all, _ranks("GlobalMaxPooling{}D") + _ranks("GlobalAveragePooling{}D")),
    (_unite, _named("Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum")),
    (_join, [layers.Concatenate]),
    (_move, _named("Flatten", "Reshape", "Permute", "RepeatVector")),
)
