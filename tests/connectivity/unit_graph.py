"""Networks twice: as Keras layers, and as explicit graphs of scalar units.

The unit graph knows nothing of the package: each scalar is a unit, each use of a
connection an edge, and paths are counted with Python's integers of any length.
"""

import itertools
import math

import keras
import numpy as np
from keras import layers


class UnitGraph:
    """Units are numbered in an order in which edges only go upwards."""

    def __init__(self):
        self.size, self.edges, self.inputs = 0, [], []

    def units(self, *shape):
        first, self.size = self.size, self.size + math.prod(shape)
        return np.arange(first, self.size).reshape(shape)

    def input(self, *shape):
        units = self.units(*shape)
        self.inputs += units.ravel().tolist()
        return units

    def join(self, sources, target, connection=None):
        for source in np.ravel(sources):
            self.edges.append((int(source), int(target), connection))

    def paths(self, outputs, without=None):
        """Number of paths from an input to an output, in a graph with a cut."""
        counts = [0] * self.size
        for unit in self.inputs:
            counts[unit] = 1
        for source, target, connection in self.sorted_edges():
            if connection is None or connection != without:
                counts[target] += counts[source]
        return sum(counts[unit] for units in outputs for unit in units.ravel())

    def sorted_edges(self):
        return sorted(self.edges, key=lambda edge: edge[1])

    def effective(self, outputs):
        """The connections without which there are fewer paths, by brute force."""
        everything = self.edges = self.sorted_edges()
        whole = self.paths(outputs)
        connections = {edge[2] for edge in everything} - {None}
        self.sorted_edges = lambda: everything
        found = {c for c in connections if self.paths(outputs, without=c) < whole}
        del self.sorted_edges
        return found


class Joint:
    """A Keras layer, and how it joins units. A connection is `(layer, index)`."""

    def __init__(self, layer, connect, kernel="kernel", rng=None, density=0.5):
        self.layer, self.connect = layer, connect
        self.kernel, self.rng, self.density = kernel, rng, density

    def __call__(self, graph, x, units):
        built = self.layer.built
        x = self.layer(x)
        if self.kernel and not built:
            thin(self.layer, self.kernel, self.rng, self.density)
        return x, self.connect(graph, units)

    def kept(self, *index):
        kernel = keras.ops.convert_to_numpy(getattr(self.layer, self.kernel))
        return (self.layer.name, self.kernel, index) if kernel[index] != 0 else None


def thin(layer, name, rng, density):
    kernel = getattr(layer, name)
    values = rng.normal(size=kernel.shape) + 3
    kernel.assign(values * (rng.random(kernel.shape) < density))


def dense(units, rng, density, name=None):
    def connect(graph, x):
        out = graph.units(*x.shape[:-1], units)
        for place in np.ndindex(x.shape[:-1]):
            for i, j in np.ndindex(x.shape[-1], units):
                if connection := joint.kept(i, j):
                    graph.join(x[place][i], out[place][j], connection)
        return out

    joint = Joint(layers.Dense(units, name=name), connect, rng=rng, density=density)
    return joint


def windows(size, kernel, stride, dilation, padding):
    """For each output position of an axis the pairs of tap and input position."""
    span = (kernel - 1) * dilation + 1
    before = 0
    if padding == "same":
        count = -(-size // stride)
        before = max((count - 1) * stride + span - size, 0) // 2
    elif padding == "causal":
        before, count = span - 1, -(-size // stride)
    else:
        count = (size - span) // stride + 1
    taps = [
        [(t, i * stride + t * dilation - before) for t in range(kernel)]
        for i in range(count)
    ]
    return [[(t, p) for t, p in row if 0 <= p < size] for row in taps]


def spread(size, kernel, stride, padding):
    """The same for a transposed convolution: tap and input of each output position."""
    extra = max(kernel - stride, 0)
    count, before = size * stride + extra, 0
    if padding == "same":
        count, before = size * stride, extra // 2
    rows = [[] for _ in range(count)]
    for i, t in itertools.product(range(size), range(kernel)):
        if 0 <= i * stride + t - before < count:
            rows[i * stride + t - before].append((t, i))
    return rows


def convolve(graph, x, rows, features, wire):
    """Joins units over windows: `wire(taps, channels of input, feature)`."""
    out = graph.units(*map(len, rows), features)
    for place in np.ndindex(out.shape[:-1]):
        taps = itertools.product(*(rows[a][p] for a, p in enumerate(place)))
        for pairs in taps:
            tap, source = zip(*pairs, strict=True)
            for feature in range(features):
                for channel, connection in wire(tap, feature):
                    graph.join(x[source][channel], out[place][feature], connection)
    return out


def conv(rank, filters, kernel, stride, dilation, padding, groups, rng, density):
    def connect(graph, x):
        rows = [windows(n, kernel, stride, dilation, padding) for n in x.shape[:-1]]
        per_group = x.shape[-1] // groups

        def wire(tap, feature):
            group = feature // (filters // groups)
            for c in range(per_group):
                if connection := joint.kept(*tap, c, feature):
                    yield group * per_group + c, connection

        return convolve(graph, x, rows, filters, wire)

    layer = getattr(layers, f"Conv{rank}D")(
        filters, kernel, stride, padding, dilation_rate=dilation, groups=groups
    )
    joint = Joint(layer, connect, rng=rng, density=density)
    return joint


def conv_transpose(rank, filters, kernel, stride, padding, rng, density):
    def connect(graph, x):
        rows = [spread(n, kernel, stride, padding) for n in x.shape[:-1]]

        def wire(tap, feature):
            for c in range(x.shape[-1]):
                if connection := joint.kept(*tap, feature, c):
                    yield c, connection

        return convolve(graph, x, rows, filters, wire)

    kind = getattr(layers, f"Conv{rank}DTranspose")
    layer = kind(filters, kernel, stride, padding)
    joint = Joint(layer, connect, rng=rng, density=density)
    return joint


def depthwise(rank, kernel, stride, padding, multiplier, rng, density):
    def connect(graph, x):
        rows = [windows(n, kernel, stride, 1, padding) for n in x.shape[:-1]]

        def wire(tap, feature):
            channel, m = divmod(feature, multiplier)
            if connection := joint.kept(*tap, channel, m):
                yield channel, connection

        return convolve(graph, x, rows, x.shape[-1] * multiplier, wire)

    kind = getattr(layers, f"DepthwiseConv{rank}D")
    layer = kind(kernel, stride, padding, depth_multiplier=multiplier)
    joint = Joint(layer, connect, rng=rng, density=density)
    return joint


def separable(rank, filters, kernel, padding, rng, density):
    kind = getattr(layers, f"SeparableConv{rank}D")
    layer = kind(filters, kernel, padding=padding, depth_multiplier=2)
    first = Joint(layer, None, "depthwise_kernel")
    last = Joint(layer, None, "pointwise_kernel")

    def connect(graph, x):
        rows = [windows(n, kernel, 1, 1, padding) for n in x.shape[:-1]]

        def wire(tap, feature):
            channel, m = divmod(feature, 2)
            if connection := first.kept(*tap, channel, m):
                yield channel, connection

        def point(tap, feature):
            for c in range(2 * x.shape[-1]):
                if connection := last.kept(*[0] * rank, c, feature):
                    yield c, connection

        middle = convolve(graph, x, rows, 2 * x.shape[-1], wire)
        rows = [windows(n, 1, 1, 1, "valid") for n in middle.shape[:-1]]
        return convolve(graph, middle, rows, filters, point)

    class Separable(Joint):
        def __call__(self, graph, x, units):
            built = self.layer.built
            y = self.layer(x)
            for name in ("depthwise_kernel", "pointwise_kernel"):
                if not built:
                    thin(self.layer, name, rng, density)
            return y, connect(graph, units)

    return Separable(layer, connect)


def pooling(name, rank, size, stride, padding):
    def connect(graph, x):
        rows = [windows(n, size, stride, 1, padding) for n in x.shape[:-1]]
        return convolve(graph, x, rows, x.shape[-1], lambda tap, f: [(f, None)])

    layer = getattr(layers, f"{name}Pooling{rank}D")(size, stride, padding)
    return Joint(layer, connect, None)


def global_pooling(name, rank):
    def connect(graph, x):
        out = graph.units(x.shape[-1])
        for c in range(x.shape[-1]):
            graph.join(x[..., c], out[c])
        return out

    return Joint(getattr(layers, f"Global{name}Pooling{rank}D")(), connect, None)


def moved(layer, function):
    """A layer that moves units about, or leaves some out or repeats some."""
    return Joint(layer, lambda graph, x: function(x), None)


def padded(rank, before, after):
    def connect(graph, x):
        widths = [(before, after)] * rank + [(0, 0)]
        out = np.pad(x, widths, constant_values=-1)
        out[out < 0] = graph.units(np.count_nonzero(out < 0))  # new ones: unreached
        return out

    width = (before, after) if rank == 1 else [(before, after)] * rank
    return Joint(getattr(layers, f"ZeroPadding{rank}D")(width), connect, None)


def all_of(layer, axes):
    """Each unit depends on all along some axes (counted without the batch)."""

    def connect(graph, x):
        out = graph.units(*x.shape)
        for place in np.ndindex(x.shape):
            along = [a % x.ndim for a in axes]
            index = tuple(slice(None) if a in along else p for a, p in enumerate(place))
            graph.join(x[index], out[place])
        return out

    return Joint(layer, connect, None)


def merged(layer):
    """Elementwise merge of a list of units of like shapes."""

    def connect(graph, xs):
        xs = np.broadcast_arrays(*xs)
        out = graph.units(*xs[0].shape)
        for place in np.ndindex(out.shape):
            graph.join([x[place] for x in xs], out[place])
        return out

    return Joint(layer, connect, None)
