"""Layers of sequences as graphs of scalar units, see `unit_graph`.

A connection is `(path of the layer that holds its kernel, kernel, index)`. Each gate of
each unit at each step is a unit, and reads each of its sources by an edge.
"""

import keras
import numpy as np
from keras import layers

from scl_keras.graph.walking import sublayers


class Inner:
    """A joint of a layer whose kernels are inside of it, at any depth."""

    def __init__(self, layer, connect, rng, density, **options):
        self.layer, self.connect, self.options = layer, connect, options
        self.rng, self.density = rng, density

    def __call__(self, graph, xs, units):
        built = self.layer.built
        xs = xs if isinstance(xs, tuple) else [xs]
        y = self.layer(*xs, **{k: v for k, v in self.options.items() if v})
        if not built:
            thin_all(self.layer, self.rng, self.density)
        return y, self.connect(graph, units)


def thin_all(layer, rng, density):
    """Leaves some connections of all kernels of a layer, and random biases."""
    for w in layer.weights:
        values = rng.normal(size=w.shape)
        if w.name.endswith("kernel"):
            values = (values + 3 * np.sign(values)) / 4
            values = values * (rng.random(w.shape) < density)
        w.assign(values)


def wire(graph, x, out, layer, name, column=0):
    """Joins units `x` to units `out` by the kernel's columns from `column` on."""
    kernel = keras.ops.convert_to_numpy(getattr(layer, name))
    for i, source in enumerate(x):
        for j, target in enumerate(out):
            if kernel[i, column + j] != 0:
                graph.join(source, target, (layer.path, name, (i, column + j)))


def gate(graph, cell, number, x, h):
    """One unit for each of the cell's, reading input and state."""
    out = graph.units(cell.units)
    wire(graph, x, out, cell, "kernel", number * cell.units)
    if h is not None:
        wire(graph, h, out, cell, "recurrent_kernel", number * cell.units)
    return out


def each(graph, *terms):
    """Units that each depend on the unit at the same place of all terms."""
    terms = [term for term in terms if term is not None]
    out = graph.units(*terms[0].shape)
    for place in np.ndindex(out.shape):
        graph.join([term[place] for term in terms], out[place])
    return out


def simple_step(graph, cell, x, states):
    (h,) = states or (None,)
    return [gate(graph, cell, 0, x, h)]


def lstm_step(graph, cell, x, states):
    h, c = states or (None, None)
    i, f, new, o = (gate(graph, cell, number, x, h) for number in range(4))
    forgotten = None if c is None else each(graph, f, c)
    c = each(graph, i, new, forgotten)
    return [each(graph, o, c), c]


def gru_step(graph, cell, x, states):
    (h,) = states or (None,)
    z, r = gate(graph, cell, 0, x, h), gate(graph, cell, 1, x, h)
    new = graph.units(cell.units)  # of the state alone: the reset gate acts on it
    if cell.reset_after and h is not None:
        wire(graph, h, new, cell, "recurrent_kernel", 2 * cell.units)
        new = each(graph, new, r)
    elif cell.reset_after and cell.use_bias:
        new = each(graph, new, r)
    elif h is not None:
        reset, new = each(graph, r, h), graph.units(cell.units)
        wire(graph, reset, new, cell, "recurrent_kernel", 2 * cell.units)
    candidate = each(graph, gate(graph, cell, 2, x, None), new)
    return [each(graph, z, candidate, h)]


STEPS = {
    layers.SimpleRNNCell: simple_step,
    layers.LSTMCell: lstm_step,
    layers.GRUCell: gru_step,
}


def run(graph, layer, x):
    """Sequence of outputs in the order in which they are made, and last states."""
    stacked = isinstance(layer.cell, layers.StackedRNNCells)
    cells = layer.cell.cells if stacked else [layer.cell]
    states, outputs = [None] * len(cells), []
    for y in x[::-1] if layer.go_backwards else x:
        for number, cell in enumerate(cells):
            step = STEPS[type(cell)]
            states[number] = step(graph, cell, y, states[number])
            y = states[number][0]
        outputs.append(y)
    output = np.stack(outputs) if layer.return_sequences else outputs[-1]
    return output, [state for of_cell in states for state in of_cell]


def recurrent(layer, rng, density):
    def connect(graph, x):
        output, states = run(graph, layer, x)
        return [output, *states] if layer.return_state else output

    return Inner(layer, connect, rng, density)


def bidirectional(layer, rng, density):
    def connect(graph, x):
        forward, states = run(graph, layer.forward_layer, x)
        backward, more = run(graph, layer.backward_layer, x)
        if layer.return_sequences:
            backward = backward[::-1]
        if layer.merge_mode == "concat":
            outputs = [np.concatenate([forward, backward], -1)]
        elif layer.merge_mode is None:
            outputs = [forward, backward]
        else:
            outputs = [each(graph, forward, backward)]
        if layer.return_state:
            outputs += [*states, *more]
        return outputs if len(outputs) > 1 else outputs[0]

    return Inner(layer, connect, rng, density)


def time_distributed(joint):
    """A joint for each time step alike, of one for a step."""

    def connect(graph, x):
        return np.stack([joint.connect(graph, y) for y in x])

    return Inner(layers.TimeDistributed(joint.layer), connect, joint.rng, joint.density)


def distributed_dense(units, rng, density):
    layer = layers.Dense(units)

    def connect(graph, x):
        out = graph.units(units)
        wire(graph, x, out, layer, "kernel")
        return out

    return time_distributed(Inner(layer, connect, rng, density))


def attention(layer, rng, density, window=None, causal=False):
    """Of a query and a value, or of those and a key: a list of units."""
    groups = isinstance(layer, layers.GroupQueryAttention)
    repeats = layer.num_repeats if groups else 1

    def connect(graph, units):
        query, value, *key = units
        inner = {x.name: x for x in sublayers(layer)}

        def heads(name, x):
            kernel = keras.ops.convert_to_numpy(inner[name].kernel)
            out = graph.units(len(x), *kernel.shape[1:])
            for place in np.ndindex(len(x), *kernel.shape):
                t, index = place[0], place[1:]
                if kernel[index] != 0:
                    connection = (inner[name].path, "kernel", index)
                    graph.join(x[t, index[0]], out[(t, *index[1:])], connection)
            return out

        q, k = heads("query", query), heads("key", [*key, value][0])
        v = heads("value", value)
        gates = heads("gate", query) if "gate" in inner else None
        attended = graph.units(*q.shape[:2], v.shape[-1])
        for t, h, d in np.ndindex(attended.shape):
            graph.join(q[t, h], attended[t, h, d])
            if gates is not None:
                graph.join(gates[t, h, d], attended[t, h, d])
            for s in range(len(value)):
                hidden = (causal and s > t) or (
                    window is not None and abs(s - t) >= window
                )
                if not hidden:
                    graph.join(k[s, h // repeats], attended[t, h, d])
                    graph.join(v[s, h // repeats, d], attended[t, h, d])
        last = inner["attention_output"]
        kernel = keras.ops.convert_to_numpy(last.kernel)
        out = graph.units(len(query), kernel.shape[-1])
        for t, h, d, j in np.ndindex(len(query), *kernel.shape):
            if kernel[h, d, j] != 0:
                connection = (last.path, "kernel", (h, d, j))
                graph.join(attended[t, h, d], out[t, j], connection)
        return out

    return Inner(layer, connect, rng, density, use_causal_mask=causal)
