"""Sizes for models that leave some open: those that their layers accept."""

import math

import numpy as np

from scl_keras.pruning.network import PrunableNetwork

# Those that images, texts and signals mostly have come first.
_SIZES = (32, 64, 128, 224, 16, 8, 4, 512, 1024, 4096, 16384, 2, 1)
_MOST_POSITIONS = 300_000


def on_accepted_sizes(network):
    """The network on the first sizes that its layers accept, or None.

    Whether any path is left hardly depends on them: padding matters alone, where an
    image is smaller than a kernel.

    Args:
        network: A `PrunableNetwork` of a model with open sizes.

    Returns:
        A `PrunableNetwork` in which a path leads from inputs to outputs while all is
        kept; None if there are no such sizes, the same for all axes that are open.
    """
    shapes = [tuple(x.shape[1:]) for x in network.model.inputs]
    everything = [np.ones(shape, bool) for shape in network.shapes]
    for size in _SIZES:
        sized = [tuple(size if n is None else n for n in shape) for shape in shapes]
        if max(map(math.prod, sized)) > _MOST_POSITIONS:
            continue
        found = PrunableNetwork(network.model, input_shapes=sized)
        try:
            if any(mask.any() for mask in found.effective(everything)):
                return found
        except Exception:  # whatever layers raise for sizes that they don't take
            continue
    return None
