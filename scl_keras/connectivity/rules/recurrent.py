"""Rules of recurrent layers: their time steps one by one.

A step makes a cell's new states of its input and of the states before. The states
before the first step are zeros: nothing is reached there, and what is multiplied by
them is no path, as the forget gate of the first step. Within a step nothing grows far:
it is enough that the states are made zeros and ones.
"""

import functools

from keras import layers, ops

from scl_keras.connectivity.activations import activated, is_known_activation
from scl_keras.connectivity.composites import binarized
from scl_keras.connectivity.layer_rules import (
    Composite,
    LayerRule,
    register_rule,
    stock_type,
)


def _activated(activation, x):
    return activated(activation, x, x.shape)


def _plus(x, state, kernel):
    """Adds what a state makes of it, if there is one."""
    return x if state is None else x + ops.matmul(state, kernel)


def _simple_step(cell, x, states, kernel):
    (h,) = states or (None,)
    return [binarized(_activated(cell.activation, _plus(x, h, kernel)))]


def _lstm_step(cell, x, states, kernel):
    h, c = states or (None, None)
    gates = ops.split(_plus(x, h, kernel), 4, axis=-1)
    functions = [cell.recurrent_activation] * 4
    functions[2] = cell.activation
    i, f, new, o = map(_activated, functions, gates)
    c = binarized(i + new if c is None else f + c + i + new)
    return [binarized(o + _activated(cell.activation, c)), c]


def _gru_step(cell, x, states, kernel):
    (h,) = states or (None,)
    of_gates, of_new = slice(2 * cell.units), slice(2 * cell.units, None)
    gates = _plus(x[:, of_gates], h, kernel[:, of_gates])
    z, r = (
        _activated(cell.recurrent_activation, gate)
        for gate in ops.split(gates, 2, axis=-1)
    )
    new, kernel = x[:, of_new], kernel[:, of_new]
    if not cell.reset_after:
        new = new if h is None else _plus(new, r + h, kernel)
    elif h is not None or cell.use_bias:
        # It multiplies what the state makes, a bias included.
        new = _plus(new, h, kernel) + r
    new = _activated(cell.activation, new)
    return [binarized(z + new if h is None else z + h + new)]


_STEPS = {
    layers.SimpleRNNCell: _simple_step,
    layers.LSTMCell: _lstm_step,
    layers.GRUCell: _gru_step,
}
_RECURRENT = (layers.RNN, layers.SimpleRNN, layers.LSTM, layers.GRU)


def _recurrent(layer, sequences):
    if _is_known(layer) and len(sequences.shape) == 3:
        return functools.partial(_run, layer)
    return None


register_rule(
    *_RECURRENT,
    rule=LayerRule(composite=Composite(_recurrent, tensors=("sequences",))),
)


def _is_known(layer):
    # The states of a stateful layer come from the batch before.
    return (
        stock_type(type(layer)) in _RECURRENT
        and not layer.stateful
        and all(
            stock_type(type(cell)) in _STEPS
            and is_known_activation(cell.activation)
            and is_known_activation(getattr(cell, "recurrent_activation", None))
            for cell in _cells(layer)
        )
    )


def _cells(layer):
    stacked = type(layer.cell) is layers.StackedRNNCells
    return layer.cell.cells if stacked else [layer.cell]


def _run(layer, masks, sequences):
    """The outputs of a recurrent layer: one, and its last states if it returns them."""
    steps = ops.unstack(sequences, axis=1)
    steps = steps[::-1] if layer.go_backwards else steps
    last = []
    for cell in _cells(layer):
        steps, states = _run_cell(cell, masks, steps)
        last += states
    output = ops.stack(steps, axis=1) if layer.return_sequences else steps[-1]
    return [output, *last] if layer.return_state else [output]


def _run_cell(cell, masks, steps):
    """The output of each step of a cell, and its last states."""
    kernel = masks[id(cell), "recurrent_kernel"]
    # In a stack each cell only reads the one before: one after another will do.
    inputs = ops.matmul(ops.stack(steps, axis=1), masks[id(cell), "kernel"])
    step, states, outputs = _STEPS[stock_type(type(cell))], None, []
    for x in ops.unstack(inputs, axis=1):
        states = step(cell, x, states, kernel)
        outputs.append(states[0])
    return outputs, states


def _bidirectional(layer, sequences):
    pair = layer.forward_layer, layer.backward_layer
    if all(map(_is_known, pair)) and len(sequences.shape) == 3:
        return functools.partial(_run_both, layer)
    return None


register_rule(
    layers.Bidirectional,
    rule=LayerRule(composite=Composite(_bidirectional, tensors=("sequences",))),
)


def _run_both(layer, masks, sequences):
    forward, *states = _run(layer.forward_layer, masks, sequences)
    backward, *more = _run(layer.backward_layer, masks, sequences)
    if layer.return_sequences:
        backward = ops.flip(backward, axis=1)
    if layer.merge_mode is None:
        outputs = [forward, backward]
    elif layer.merge_mode == "concat":
        outputs = [ops.concatenate([forward, backward], axis=-1)]
    else:
        outputs = [forward + backward]
    return [*outputs, *states, *more]
