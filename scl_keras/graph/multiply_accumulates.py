"""How often each connection is used: the multiply-accumulates of a network."""

from scl_keras.graph.calls import layer_calls
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.layers.positions import nowhere


def connection_positions(model, inputs=None):
    """Number of positions that each layer's connections serve, over all its calls.

    Args:
        model: A built Keras model.
        inputs: List of `keras.Input` to call a graph on; by default its own.

    Returns:
        A function from a kernel (see `scl_keras.graph.kernels.Kernel`) to that number,
        or None where a size isn't known.
    """
    calls = {}
    for call in layer_calls(model, inputs):
        calls.setdefault(id(call.layer), []).append(call)

    def positions(kernel):
        if kernel.positions is nowhere:
            return 0
        used = [_positions(kernel, call) for call in calls.get(id(kernel.layer), [])]
        return None if not used or None in used else sum(used)

    return positions


def _positions(kernel, call):
    served = kernel.positions(kernel, call)
    return None if None in (served, call.times) else served * call.times


def record_positions(model):
    """Writes into each mask how many positions its connections serve."""
    positions = connection_positions(model)
    for kernel in prunable_kernels(model):
        if kernel.mask is not None:
            kernel.mask.positions = positions(kernel)
