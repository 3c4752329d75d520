"""Copies of layers from their configuration, with the layers they wrap converted."""

import keras

from scl_keras.graph.walking import wrapped_configs


def copy_layer(layer, convert, layer_class=None, config=None):
    """Makes an unbuilt copy of a layer, whose wrapped layers are converted.

    Args:
        layer: A Keras layer; a wrapper such as `TimeDistributed`, or not.
        convert: Function from a wrapped layer to the one to wrap instead.
        layer_class: Class of the copy, if another one.
        config: Constructor arguments of the copy, if others.

    Returns:
        A layer.
    """
    config = layer.get_config() if config is None else config
    if type(layer) is keras.layers.Lambda:
        # The function at hand: made anew from its byte code it would be refused as
        # unsafe, and miss its globals.
        config |= {"function": layer.function, "arguments": layer.arguments}
        config |= {"mask": layer.mask, "output_shape": layer._output_shape}
        return keras.layers.Lambda(**config)
    for inner, serialized in wrapped_configs(layer, config):
        converted = convert(inner)
        serialized.pop("build_config", None)  # built anew, and by its wrapper
        serialized.update(keras.saving.serialize_keras_object(converted))
    return (layer_class or type(layer)).from_config(config)
