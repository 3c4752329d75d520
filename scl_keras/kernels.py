"""The kernels of a model whose connections can be cut, masked or not."""

import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from scl_keras.graph import sublayers, wrapped_layers
from scl_keras.layers.masked_layer import MaskedLayer, masked_class_of
from scl_keras.masks import Mask
from scl_keras.positions import at_features


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel of one layer.

    Attributes:
        layer: The layer it belongs to, masked or stock.
        name: The layer's attribute that holds it, such as `"kernel"`.
        feature_axes: Its axes that index features (output units or filters).
        mask: The `Mask` over it, or None.
        positions: Rule of `scl_keras.positions` by which its multiply-accumulates are
            counted.
    """

    layer: keras.layers.Layer
    name: str
    feature_axes: tuple
    mask: Mask | None
    positions: Callable = at_features

    @property
    def label(self):
        """Name in logs and pictures: the layer's path and the kernel's name."""
        return f"{self.layer.path or self.layer.name}/{self.name}"

    @property
    def shape(self):
        """Shape of the kernel."""
        return tuple(getattr(self.layer, self.name).shape)

    def kept(self):
        """Boolean NumPy array of the kernel's shape: not cut, by mask or by a zero."""
        if self.mask is not None:
            return ops.convert_to_numpy(self.mask.kept("bool"))
        return ops.convert_to_numpy(getattr(self.layer, self.name)) != 0

    def dead_features(self, kept=None):
        """Number of features without a connection.

        Args:
            kept: Boolean array of the kernel's shape, by default `kept()`.
        """
        kept = self.kept() if kept is None else kept
        features = {axis % kept.ndim for axis in self.feature_axes}
        rest = tuple(axis for axis in range(kept.ndim) if axis not in features)
        return int(np.sum(~kept.any(axis=rest)))

    @property
    def features(self):
        """Number of features."""
        return int(np.prod([self.shape[axis] for axis in self.feature_axes]))


def prunable_kernels(model):
    """The kernels of all layers that are masked or could be, at any depth.

    Args:
        model: A built Keras model or layer.

    Returns:
        A list of `Kernel`, in the order of the layers; a shared layer's stand once.
    """
    kernels = []
    for layer, within_reach in _walk(model, True, set()):
        masked = isinstance(layer, MaskedLayer)
        masked_class = type(layer) if masked else masked_class_of(layer)
        if masked_class is None or not layer.built or not (masked or within_reach):
            continue
        for name, declared in masked_class.declared_kernels().items():
            mask = layer.mask_of(name) if masked else None
            axes = declared.axes_of(layer)
            kernels.append(Kernel(layer, name, axes, mask, declared.positions))
    return kernels


def _walk(layer, within_reach, seen):
    """A layer and all inside of it, and whether `sparsify` could mask them."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield layer, within_reach
    inner = sublayers(layer)
    # A layer with a masked twin hands the masks on to the layers that it makes itself.
    opens = isinstance(layer, (keras.Model, MaskedLayer)) or masked_class_of(layer)
    open_to = {id(x) for x in (inner if opens else wrapped_layers(layer))}
    for child in inner:
        yield from _walk(child, within_reach and id(child) in open_to, seen)
