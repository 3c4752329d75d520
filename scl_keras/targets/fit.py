"""Rewrites what stands between a model and a runtime, and is only a matter of form."""

import keras
from keras import layers

from scl_keras.conversion.copying import copy_graph
from scl_keras.conversion.masked_model import as_masked_model
from scl_keras.graph.walking import check_graph
from scl_keras.masks.mask import find_masks
from scl_keras.targets.check import check_name

_KINDS = (layers.Conv2D, layers.DepthwiseConv2D)


def fit_to_target(model: keras.Model, runtime: str) -> keras.Model:
    """Makes a model that computes the same in the form that a runtime wants.

    For `"xnnpack"`, 2D convolutions (depthwise ones, too) with strides and `"same"`
    padding become `"valid"` ones behind a `ZeroPadding2D`. What `"same"` pads depends
    on the size of the image: with stride 2 it is alike on both sides for odd sizes
    only; `check_target` tells of the others, which need another network. For the
    others form doesn't matter, and the model is only copied.

    Args:
        model: A built functional or Sequential model, stock or masked, with inputs of
            known sizes.
        runtime: One of `RUNTIMES`.

    Returns:
        A functional model with the same weights, masks, outputs and names of layers,
        not compiled.

    Raises:
        ValueError: If the model has no graph or open sizes, or there is no such
            runtime.

    Example:

    ```python
    model = fit_to_target(model, "xnnpack")
    print(check_target(model, "xnnpack"))
    ```
    """
    check_name(runtime)
    check_graph(model, "fit_to_target")
    rewriter = _Rewriter()
    if runtime == "xnnpack":
        copied = copy_graph(model, rewriter.change, rewriter.call)
    else:
        copied = copy_graph(model)
    return as_masked_model(copied) if find_masks(copied) else copied


class _Rewriter:
    """Has padding explicit in a copied graph."""

    def __init__(self):
        self._padded, self._names = set(), {}

    def change(self, layer):
        """Takes the padding away from a copied layer that isn't built yet."""
        if _pads_with_strides(layer):
            self._padded.add(id(layer))
            layer.padding = "valid"

    def call(self, layer, *args, **kwargs):
        """Calls a copied layer, behind the padding that it had."""
        if id(layer) in self._padded:
            x, *rest = args
            padding = _padding(layer, x.shape)
            if any(map(any, padding)):
                name = f"{layer.name}_pad"
                x = layers.ZeroPadding2D(padding, name=self._new(name))(x)
            args = (x, *rest)
        return layer(*args, **kwargs)

    def _new(self, name):
        """The name, with a number where a layer is called again."""
        count = self._names[name] = self._names.get(name, 0) + 1
        return name if count == 1 else f"{name}_{count}"


def _pads_with_strides(layer):
    return (
        isinstance(layer, _KINDS)
        and layer.padding == "same"
        and max(layer.strides) > 1
        and layer.data_format == "channels_last"
    )


def _padding(layer, shape):
    """What `"same"` pads an image of this shape with: before and after, each axis."""
    sizes = shape[1:3]
    if None in sizes:
        raise ValueError(
            "`fit_to_target` needs images of known sizes, on which `'same'` padding "
            f"depends. Received: layer '{layer.name}' on images of shape {shape}"
        )
    pairs = []
    for size, kernel, stride, dilation in zip(
        sizes, layer.kernel_size, layer.strides, layer.dilation_rate, strict=True
    ):
        outputs = -(-size // stride)
        total = max((outputs - 1) * stride + (kernel - 1) * dilation + 1 - size, 0)
        pairs.append((total // 2, total - total // 2))
    return tuple(pairs)
