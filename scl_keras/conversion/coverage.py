"""How much of a model has masks, and why the rest has none."""

import dataclasses

import keras
import numpy as np

from scl_keras.graph.walking import own_weights, walk_inside
from scl_keras.layers.in_place import kernel_variables
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.twins import has_kernels
from scl_keras.masks.mask import split_masks

_NAMES = 4


@dataclasses.dataclass(frozen=True)
class Coverage:
    """How much of a model has masks.

    A kernel here is, in whatever layer, any weight of rank two or more that isn't known
    to be something else.

    Attributes:
        masked: Number of kernels with a mask.
        kernels: Number of all kernels.
        masked_size: Number of connections in the former.
        size: Number of all weights of the model, masks left out.
        reasons: Dict of lists of kernels' names: those without a mask, by the reason.
    """

    masked: int
    kernels: int
    masked_size: int
    size: int
    reasons: dict

    def __str__(self):
        text = (
            f"masked {self.masked} of {self.kernels} kernels, "
            f"{self.masked_size / max(self.size, 1):.0%} of {_short(self.size)} weights"
        )
        parts = [f"{_listed(names)}: {why}" for why, names in self.reasons.items()]
        return f"{text}; not masked: {'; '.join(parts)}" if parts else text


def coverage_of(model, why):
    """Looks at all kernels of a model.

    Args:
        model: A built model.
        why: Function from a layer to the reason why it has no mask.

    Returns:
        A `Coverage`.
    """
    masked, reasons, masked_size, count = 0, {}, 0, 0
    for layer, variable in kernels_of(model):
        count += 1
        if is_masked_kernel(layer, variable):
            masked += 1
            masked_size += int(np.prod(variable.shape))
        else:
            reasons.setdefault(why(layer), []).append(variable.path)
    weights, _ = split_masks(model.weights)
    size = sum(int(np.prod(w.shape)) for w in weights)
    return Coverage(masked, count, masked_size, size, reasons)


def kernels_of(model):
    """Pairs of a layer and a kernel of its own, each kernel once.

    Of layers that can be masked what their masked version declares, of others all
    weights of rank two or more, but for statistics of data and tables of integers.
    """
    found = {}
    for layer in walk_inside(model):
        if has_kernels(layer):
            variables = dict(kernel_variables(layer)).values() if layer.built else ()
        elif isinstance(layer, keras.layers.Normalization):
            variables = ()
        else:
            variables = [w for w in own_weights(layer) if len(w.shape) > 1]
        for variable in variables:
            # A table of integers is no kernel, unless quantization made it one.
            quantized = getattr(layer, "quantization_mode", None)
            if quantized or keras.backend.is_float_dtype(variable.dtype):
                found.setdefault(id(variable), (layer, variable))
    return list(found.values())


def is_masked_kernel(layer, variable):
    """Whether a weight of a layer is a kernel with a mask."""
    return isinstance(layer, MaskedLayer) and any(
        own is variable for _, own in kernel_variables(layer)
    )


def _listed(names):
    more = len(names) - _NAMES
    listed = ", ".join(names[:_NAMES])
    return f"{listed} and {more} more" if more > 0 else listed


def _short(number):
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= unit:
            return f"{number / unit:.1f}{name}"
    return str(number)
