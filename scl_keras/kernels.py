"""The kernels of a model whose connections can be cut, masked or not."""

import dataclasses

import keras
import numpy as np
from keras import ops

from scl_keras.graph import walk_layers
from scl_keras.layers.masked_layer import MaskedLayer, masked_class_of
from scl_keras.masks import Mask


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel of one layer.

    Attributes:
        layer: The layer it belongs to, masked or stock.
        name: The layer's attribute that holds it, such as `"kernel"`.
        feature_axes: Its axes that index features (output units or filters).
        mask: The `Mask` over it, or None.
    """

    layer: keras.layers.Layer
    name: str
    feature_axes: tuple
    mask: Mask | None

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
            return ops.convert_to_numpy(self.mask.variable) > 0
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
    """The kernels of all layers that are masked or could be.

    Args:
        model: A built Keras model.

    Returns:
        A list of `Kernel`, in the order of the layers; a shared layer's stand once.
    """
    kernels = []
    for layer in walk_layers(model):
        masked = isinstance(layer, MaskedLayer)
        masked_class = type(layer) if masked else masked_class_of(layer)
        if masked_class is None or not layer.built:
            continue
        for name, declared in masked_class.declared_kernels().items():
            mask = layer.mask_of(name) if masked else None
            kernels.append(Kernel(layer, name, declared.feature_axes, mask))
    return kernels
