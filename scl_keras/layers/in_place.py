"""Masks put into a layer as it is, and taken out again, by a change of its class.

The layer stays the object that it is, with all that it has: PyTorch's `parametrize`
works alike. Its class becomes the masked twin of it, which reads masked kernels inside
of calls; what the layer is given besides are its masks and what they were made with.
"""

import contextlib
import dataclasses

import keras
from keras import ops

from scl_keras.backend.keras_private import (
    attach,
    autocasts,
    detach,
    kernel_under_lora,
    set_autocast,
    use_first_quantize,
    use_own_quantize,
)
from scl_keras.layers.followers import FOLLOWERS, ChannelFollower
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.twins import masked_class_of, own_kernels
from scl_keras.layers.weight_functions import OnKeptConnections, OnMaskedKernel


def put_masks(layer, settings):
    """Makes a masked layer of a built stock layer, in place.

    Args:
        layer: A built layer whose class has a masked twin.
        settings: `MaskSettings` of its masks.

    Raises:
        Exception: Whatever the settings raise for a kernel. The layer stays as it is.
    """
    layer.__class__ = masked_class_of(layer)
    use_own_quantize(layer)
    layer.masked_in_place = True
    layer.mask_settings = settings
    try:
        for name in own_kernels(layer):
            attach(layer, f"{name}_mask", layer.new_mask(name))
        _cast_after_masking(layer)
        with _name_scope_of(layer):
            layer.build_masks()
    except BaseException:
        take_masks(layer, cut=False)
        raise


def follow_channels(layer):
    """Makes a follower of a stock layer, in place: `connect_followers` connects it."""
    layer.__class__ = FOLLOWERS[type(layer)]
    layer.masked_in_place = True


def put_masks_like(layer, stock):
    """Puts such masks into a stock layer as another layer was given, if it was."""
    if isinstance(layer, ChannelFollower) and layer.masked_in_place:
        follow_channels(stock)
    elif isinstance(layer, MaskedLayer) and layer.masked_in_place:
        put_masks(stock, layer.mask_settings)


def replace_masks(layer, settings):
    """Gives a masked layer new masks that keep what its own keep now.

    Args:
        layer: A `MaskedLayer`.
        settings: Their `MaskSettings`, of the same granularity.
    """
    old = {name: layer.mask_of(name) for name in own_kernels(layer)}
    behind = {name: mask.acts_behind() for name, mask in old.items()}
    take_masks(layer).restore(with_masks=False)
    layer.mask_settings = settings
    for name in old:
        attach(layer, f"{name}_mask", layer.new_mask(name))
    with _name_scope_of(layer):
        layer.build_masks()
    for name, mask in old.items():
        layer.mask_of(name).variable.assign(ops.copy(mask.deciding()))
        layer.mask_of(name).act_behind(behind[name])


@dataclasses.dataclass(frozen=True)
class TakenMasks:
    """What a masked layer had that the stock layer it became doesn't have.

    Attributes:
        layer: The layer.
        masked_class: The class it had.
        attributes: Dict of its attributes, without masks.
        masks: Dict of its masks, by the names of attributes.
        values: Pairs of its weights and the values they had, arrays.
        functions: Triples of a kernel, and the regularizer and constraint it had.
    """

    layer: keras.layers.Layer
    masked_class: type
    attributes: dict
    masks: dict
    values: list
    functions: list

    def restore(self, with_masks=True):
        """Makes the masked layer again that it was, with the same masks."""
        layer = self.layer
        layer.__class__ = self.masked_class
        use_own_quantize(layer)
        vars(layer).update(self.attributes)
        for weight, value in self.values:
            weight.assign(value)
        if not with_masks:
            _cast_after_masking(layer)
            return
        for name, mask in self.masks.items():
            attach(layer, name, mask)
        if self.masks:
            _cast_after_masking(layer)
        for kernel, regularizer, constraint in self.functions:
            kernel.regularizer, kernel.constraint = regularizer, constraint


_OF_MASKS = ("mask_settings", "masked_in_place", "_masked", "_cast_after", "_source")


def take_masks(layer, cut=True):
    """Makes the stock layer of a masked one or a follower, in place.

    Args:
        layer: A `MaskedLayer` or a `ChannelFollower`, in whose channels those that
            follow it are read before it is stripped itself.
        cut: Whether its kernels become `v * H(s)`, so that it computes the same.
            Otherwise they stay the `v` that they are, and masks may be unbuilt.

    Returns:
        `TakenMasks`, with which the masked layer can be restored.
    """
    new = stripped_weights(layer) if cut else []
    values = [(weight, ops.convert_to_numpy(weight).copy()) for weight, _ in new]
    kernels = [] if isinstance(layer, ChannelFollower) else kernel_variables(layer)
    functions = [(v, v.regularizer, v.constraint) for _, v in kernels]
    masks = {}
    if isinstance(layer, MaskedLayer):
        names = [f"{name}_mask" for name in own_kernels(layer)]
        masks = {name: detach(layer, name) for name in names if hasattr(layer, name)}
    for name, variable in kernels:
        if name in vars(layer).get("_cast_after", ()):
            set_autocast(variable, True)
        if isinstance(variable.regularizer, OnMaskedKernel):
            variable.regularizer = variable.regularizer.regularizer
        if isinstance(variable.constraint, OnKeptConnections):
            variable.constraint = variable.constraint.constraint
    own = vars(layer)
    attributes = {name: own.pop(name) for name in _OF_MASKS if name in own}
    taken = TakenMasks(layer, type(layer), attributes, masks, values, functions)
    layer.__class__ = layer.stock_class
    use_first_quantize(layer)
    for weight, value in new:
        weight.assign(value)
    return taken


def stripped_weights(layer):
    """Pairs of a layer's weights and the values that they have without masks."""
    if isinstance(layer, ChannelFollower):
        return layer.stripped_weights()
    pairs = []
    values = layer.masked_kernels() | layer.masked_biases()
    for name, value in values.items():
        variable = getattr(layer, name)
        if not isinstance(variable, keras.Variable):  # LoRA: merged into the kernel
            variable = dict(kernel_variables(layer))[name]
            zeros = layer.lora_kernel_b if name == "kernel" else layer.lora_embeddings_b
            pairs.append((zeros, ops.zeros(zeros.shape, zeros.dtype)))
        pairs.append((variable, value))
    return pairs


def kernel_variables(layer):
    """Pairs of the name and variable of a layer's kernels, also where LoRA adds to one.

    Args:
        layer: A built layer, masked or with a masked twin.
    """
    pairs = []
    for name in own_kernels(layer):
        variable = getattr(layer, name)
        if not isinstance(variable, keras.Variable):
            variable = kernel_under_lora(layer, name)
        if variable is not None:
            pairs.append((name, variable))
    return pairs


def _cast_after_masking(layer):
    """Has Keras cast kernels after they are masked, see `MaskedLayer.add_weight`."""
    for name, variable in kernel_variables(layer):
        if autocasts(variable):
            vars(layer).setdefault("_cast_after", set()).add(name)
            set_autocast(variable, False)


@contextlib.contextmanager
def _name_scope_of(layer):
    """Has variables named as if the layer made them in its `build`."""
    with contextlib.ExitStack() as stack:
        for name in (layer.path or layer.name).split("/"):
            stack.enter_context(keras.name_scope(name))
        yield
