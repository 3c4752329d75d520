"""Rewrites what stands between a model and a runtime, and is only a matter of form."""

import keras
from keras import layers

from scl_keras.conversion.copying import copy_layer
from scl_keras.conversion.rebuilding import as_scl_model, check_graph
from scl_keras.conversion.state import copy_state
from scl_keras.graph.walking import is_graph
from scl_keras.masks.mask import find_masks
from scl_keras.targets.check import check_name

_KINDS = (layers.Conv2D, layers.DepthwiseConv2D)


def fit_to_target(model, target):
    """Makes a model that computes the same in the form that a target wants.

    For `"xnnpack"`, 2D convolutions (depthwise ones, too) with strides and `"same"`
    padding become `"valid"` ones behind a `ZeroPadding2D`. What `"same"` pads depends
    on the size of the image: with stride 2 it is alike on both sides for odd sizes
    only; `check_target` tells of the others, which need another network. For the
    other targets form doesn't matter, and the model is only copied.

    Args:
        model: A built functional or Sequential model, stock or masked, with inputs of
            known sizes.
        target: One of `TARGETS`.

    Returns:
        A functional model with the same weights, masks, outputs and names of layers,
        not compiled.

    Raises:
        ValueError: If the model has no graph or open sizes, or there is no such target.

    Example:

    ```python
    model = fit_to_target(model, "xnnpack")
    print(check_target(model, "xnnpack"))
    ```
    """
    check_name(target)
    check_graph(model, "fit_to_target")
    rewrites = target == "xnnpack"
    copy = _Rewriter(rewrites).rewrite(model)
    return as_scl_model(copy) if find_masks(copy) else copy


class _Rewriter:
    """Copies graphs with explicit padding."""

    def __init__(self, rewrites):
        self._rewrites = rewrites
        self._copies, self._padded, self._names = {}, set(), {}

    def rewrite(self, model):
        """A functional copy of a graph, nested ones included."""
        own = []
        functional = not isinstance(model, keras.Sequential)
        graph = keras.Model(
            model.input if functional else model.inputs[0],
            model.output if functional else model.outputs[0],
            name=model.name,
        )

        def clone(layer):
            if id(layer) not in self._copies:
                self._copies[id(layer)] = self._copy(layer)
                own.append((layer, self._copies[id(layer)]))
            return self._copies[id(layer)]

        copy = keras.models.clone_model(
            graph, clone_function=clone, call_function=self._call
        )
        for old, new in own:
            if isinstance(old, keras.layers.Layer) and not is_graph(old):
                copy_state(old, new)
        return copy

    def _copy(self, layer):
        if is_graph(layer):
            return self.rewrite(layer)
        config = layer.get_config()
        if self._rewrites and _pads_with_strides(layer):
            config["padding"] = "valid"
        copy = copy_layer(layer, self._inner, config=config)
        if config.get("padding") != getattr(layer, "padding", None):
            self._padded.add(id(copy))
        return copy

    def _inner(self, layer):
        """A copy of a layer in a wrapper, whose calls can't be told apart."""
        return (
            self.rewrite(layer) if is_graph(layer) else copy_layer(layer, self._inner)
        )

    def _call(self, layer, *args, **kwargs):
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
