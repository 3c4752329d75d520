"""Keras's own `quantize` on models with masks."""

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import prune, strip_masks


def pruned(rng):
    model = keras.Sequential(
        [keras.Input((8,)), layers.Dense(16, "relu"), layers.Dense(3)]
    )
    for w in model.trainable_variables:
        w.assign(rng.normal(size=w.shape))
    return prune(model, "magnitude", 0.5)


def test_a_model_with_masks_says_what_to_do_instead(rng):
    model = pruned(rng)
    with pytest.raises(ValueError, match=r"`strip_masks\(model\)`.*with 2 masks"):
        model.quantize("int8")
    with pytest.raises(ValueError, match=r"'dense.*has masks.*`strip_masks"):
        model.layers[0].quantize("int8")
    assert {w.dtype for w in model.weights} == {"float32"}


@pytest.mark.slow
def test_without_masks_it_is_quantized_and_zeros_stay(rng):
    model, x = pruned(rng), rng.normal(size=(5, 8)).astype("float32")
    expected = np.asarray(model(x))
    zero = [layer.kernel.numpy() == 0 for layer in strip_masks(model).layers]
    model.quantize("int8", filters="dense")  # Keras warns of its input layer
    for layer, cut in zip(model.layers, zero, strict=True):
        assert layer._kernel.dtype == "int8"
        assert not np.asarray(layer._kernel)[cut].any()
    np.testing.assert_allclose(model(x), expected, atol=0.05 * np.abs(expected).max())
