"""Stock layers that become masked ones before they have weights, in place.

A masked layer does so with the layers that it makes for itself: their masks are built
with them.
"""

import functools

import keras

from scl_keras.graph.walking import walk_inside
from scl_keras.layers.twins import masked_class_of, own_kernels


def mask_unbuilt(value, owner):
    """Masks the unbuilt layers in what a masked layer is given as an attribute.

    Args:
        value: A layer, a list or tuple, also of such, or whatever else: layers that
            are built, or have no masked twin, stay as they are.
        owner: The masked layer, with whose settings masks are made.
    """
    if isinstance(value, (list, tuple)):
        for item in value:
            mask_unbuilt(item, owner)
    # A layer that is built has weights, or is another one's.
    elif isinstance(value, keras.layers.Layer) and not value.built:
        for layer in walk_inside(value):
            if masked_class_of(layer) is not None and not layer.built:
                _put_masks_when_built(layer, owner.mask_settings)


def _put_masks_when_built(layer, settings):
    """Makes a masked layer of an unbuilt stock one, in place."""
    stock_build = vars(layer)["build"]  # each layer's own: Keras's wrapper of it
    layer.__class__ = masked_class_of(layer)
    layer.mask_settings = settings
    names = list(own_kernels(layer))
    for name in names:
        setattr(layer, f"{name}_mask", layer.new_mask(name))

    if names:

        @functools.wraps(stock_build)
        def build(*args, **kwargs):
            stock_build(*args, **kwargs)
            layer.build_masks()

        layer.build = build
