"""The kernels of a model whose connections can be cut, masked or not."""

import collections
import dataclasses
from collections.abc import Callable

import keras
import numpy as np
from keras import ops

from scl_keras.graph.walking import sublayers
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.positions import at_features
from scl_keras.layers.twins import own_kernels
from scl_keras.masks.mask import Mask


@dataclasses.dataclass(frozen=True)
class Kernel:
    """One kernel of one layer.

    Attributes:
        layer: The layer it belongs to, masked or stock.
        name: The layer's attribute that holds it, such as `"kernel"`.
        feature_axes: Its axes that index features (output units or filters).
        mask: The `Mask` over it, or None.
        positions: Rule of `scl_keras.layers.positions` by which its
            multiply-accumulates are counted.
        label: Name in logs and pictures: the layer's path and the kernel's name, such
            as `"dense_1/kernel"`. Kernels of one model that would be named alike have
            the names of the models that they are in before it, and a number after the
            layer's path if that isn't enough.
    """

    layer: keras.layers.Layer
    name: str
    feature_axes: tuple
    mask: Mask | None
    positions: Callable = at_features
    label: str | None = None

    def __post_init__(self):
        if self.label is None:
            object.__setattr__(self, "label", f"{_path(self.layer)}/{self.name}")

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
    kernels, models = [], {}
    for layer, around in _walk(model, set()):
        models[id(layer)] = around
        if not layer.built:
            continue
        for name, declared in own_kernels(layer).items():
            mask = layer.mask_of(name) if isinstance(layer, MaskedLayer) else None
            axes = declared.axes_of(layer)
            kernels.append(Kernel(layer, name, axes, mask, declared.positions))
    return _told_apart(kernels, models)


def _told_apart(kernels, models):
    """The kernels with labels of their own, given the names of the models around."""
    count = collections.Counter(kernel.label for kernel in kernels)
    paths = {}
    for kernel in kernels:
        if count[kernel.label] > 1:
            around = models[id(kernel.layer)]
            paths[id(kernel.layer)] = "/".join([*around, _path(kernel.layer)])
        else:
            paths.setdefault(id(kernel.layer), _path(kernel.layer))
    labels, taken = [], {f"{paths[id(k.layer)]}/{k.name}" for k in kernels}
    for kernel in kernels:
        path = paths[id(kernel.layer)]
        label, number = f"{path}/{kernel.name}", 0
        while label in labels or (number and label in taken):
            number += 1
            label = f"{path}_{number}/{kernel.name}"
        labels.append(label)
    return [
        dataclasses.replace(kernel, label=label)
        for kernel, label in zip(kernels, labels, strict=True)
    ]


def _path(layer):
    return layer.path or layer.name


def _walk(layer, seen, around=()):
    """A layer and all inside of it, each with the names of the models around it."""
    if id(layer) in seen:
        return
    seen.add(id(layer))
    yield layer, around
    for child in sublayers(layer):
        name = (child.name,) if isinstance(child, keras.Model) else ()
        yield from _walk(child, seen, around + name)
