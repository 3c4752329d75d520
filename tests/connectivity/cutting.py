"""What tests of cut kernels do: cut them, and compare what is left."""

import numpy as np
from keras import ops


def cut(layer, *index):
    """Sets a part of a layer's kernel to zero."""
    kernel = ops.convert_to_numpy(layer.kernel).copy()
    kernel[index] = 0
    layer.kernel.assign(kernel)


def assert_same(model, small, rng):
    """Compares the answers of two models of one input."""
    x = rng.normal(size=(3, *model.input_shape[1:])).astype("float32")
    a, b = (ops.convert_to_numpy(m(x)) for m in (model, small))
    np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
