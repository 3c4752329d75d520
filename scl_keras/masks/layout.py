"""Masks lie on the same devices as their kernels, where a model is spread over some."""

import keras

from scl_keras.backend.keras_private import set_layout


def follow_layout(variable: keras.Variable, kernel: keras.Variable) -> None:
    """Spreads a mask variable over devices as its kernel is.

    Under a `keras.distribution.ModelParallel` whose `LayoutMap` names the kernel. A
    mask that it names itself lies where it says. Along an axis that switches several
    connections with one value, a mask is whole on each device.

    Args:
        variable: The mask variable.
        kernel: Its kernel.
    """
    distribution = keras.distribution.distribution()
    if not isinstance(distribution, keras.distribution.ModelParallel):
        return
    own = distribution.get_variable_layout(variable)
    if any(axis is not None for axis in own.axes):
        return
    layout = distribution.get_variable_layout(kernel)
    if len(variable.shape) != len(kernel.shape):
        return
    sizes = zip(layout.axes, kernel.shape, variable.shape, strict=True)
    axes = [axis if size == own_size else None for axis, size, own_size in sizes]
    if any(axis is not None for axis in axes):
        set_layout(variable, keras.distribution.TensorLayout(axes, layout.device_mesh))
