"""Copies what layers have learned: weights, masks and vocabularies."""

import tempfile

import keras

from scl_keras.graph.walking import own_weights, walk_inside
from scl_keras.layers.followers import ChannelFollower
from scl_keras.layers.masked_layer import MaskedLayer


def copy_state(old, new):
    """Copies weights, masks and what `adapt` found, also those of layers inside.

    A masked layer gives a stock one its kernels with zeros in them.

    Args:
        old: A built layer.
        new: Its built copy; masked, stock, or like the old one.

    Raises:
        ValueError: If the copy has other layers inside, or other weights.
    """
    sources, targets = list(walk_inside(old)), list(walk_inside(new))
    if len(sources) != len(targets):
        raise _unlike(old, f"{len(sources)} and {len(targets)} layers")
    for source, target in zip(sources, targets, strict=True):
        _copy_weights(source, target)
        _copy_adapted(source, target)


def _copy_weights(old, new):
    old_weights, new_weights = own_weights(old), own_weights(new)
    strips = isinstance(old, MaskedLayer) and not isinstance(new, MaskedLayer)
    if strips and getattr(old, "lora_enabled", False):
        old_weights = old_weights[: len(new_weights)]  # LoRA's own come last
    if len(old_weights) != len(new_weights):
        raise _unlike(old, f"{len(old_weights)} and {len(new_weights)} weights")
    for source, target in zip(old_weights, new_weights, strict=True):
        target.assign(source)
    if strips:
        for name, values in (old.masked_kernels() | old.masked_biases()).items():
            getattr(new, name).assign(values)
    elif isinstance(old, MaskedLayer):
        for name in old.declared_kernels():
            new.mask_of(name).variable.assign(old.mask_of(name).variable)
    if isinstance(old, ChannelFollower) and type(new) is old.stock_class:
        old.strip_into(new)


def _unlike(layer, received):
    return ValueError(
        f"A copy of layer '{layer.name}' made from its configuration is not like it. "
        "What was added to it after it was built, such as LoRA to a layer inside of "
        f"it, can't be copied. Received: {received}"
    )


def _copy_adapted(old, new):
    """Copies what `adapt` found and Keras keeps outside of the weights."""
    if isinstance(old, keras.layers.Normalization):
        new.finalize_state()
    if hasattr(old, "save_assets"):  # vocabularies
        with tempfile.TemporaryDirectory() as directory:
            old.save_assets(directory)
            new.load_assets(directory)
