"""A layer of one's own, stock and masked, as a user would write it."""

import keras
from keras import ops

from scl_keras import MaskedKernel, MaskedLayer


@keras.saving.register_keras_serializable("maskable_layers")
class Bottleneck(keras.layers.Layer):
    """Two kernels held as plain attributes."""

    def __init__(self, width, units, **kwargs):
        super().__init__(**kwargs)
        self.width, self.units = width, units

    def build(self, input_shape):
        self.squeeze = self.add_weight((input_shape[-1], self.width), name="squeeze")
        self.expand = self.add_weight((self.width, self.units), name="expand")
        self.bias = self.add_weight((self.units,), "ones", name="bias")

    def call(self, x):
        x = ops.tanh(ops.matmul(x, self.squeeze))
        return ops.matmul(x, self.expand) + self.bias

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "width": self.width, "units": self.units}


@keras.saving.register_keras_serializable("maskable_layers")
class MaskedBottleneck(MaskedLayer, Bottleneck):
    squeeze = MaskedKernel()
    expand = MaskedKernel()
