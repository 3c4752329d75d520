import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import SCLModel, find_masks, fit_to_target, sparsify
from scl_keras.layers import MaskedConv2D


def check(model, rng, paddings=None):
    fitted = fit_to_target(model, "xnnpack")
    flat = [x for x in fitted._flatten_layers() if isinstance(x, layers.Layer)]
    for layer in flat:
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            assert layer.padding == "valid" or max(layer.strides) == 1
    shape = (2, *model.inputs[0].shape[1:])
    x = rng.normal(size=shape).astype("float32")
    np.testing.assert_allclose(fitted(x), model(x), rtol=1e-5, atol=1e-5)
    assert [w.shape for w in fitted.weights] == [w.shape for w in model.weights]
    assert fitted.name == model.name
    if paddings is not None:
        found = [x.padding for x in flat if isinstance(x, layers.ZeroPadding2D)]
        assert found == paddings
    return fitted


@pytest.mark.parametrize("kind", [layers.Conv2D, layers.DepthwiseConv2D])
@pytest.mark.parametrize("size", [(7, 7), (8, 8), (7, 10), (5, 6)])
@pytest.mark.parametrize(
    ("kernel", "strides"), [(3, 2), (5, 2), (2, 2), (3, 3), (1, 2), (4, 3)]
)
def test_outputs_are_those_of_same_padding(kind, size, kernel, strides, rng):
    args = (4, kernel, strides) if kind is layers.Conv2D else (kernel, strides)
    inputs = keras.Input((*size, 3))
    check(keras.Model(inputs, kind(*args, padding="same")(inputs)), rng)


def test_paddings_are_those_of_the_size(rng):
    for size, expected in [(7, ((1, 1), (1, 1))), (8, ((0, 1), (0, 1)))]:
        inputs = keras.Input((size, size, 3))
        model = keras.Model(inputs, layers.Conv2D(2, 3, 2, "same")(inputs))
        check(model, rng, [expected])


def test_other_layers_stay(rng):
    inputs = keras.Input((9, 9, 3))
    x = layers.Conv2D(4, 3, padding="same", dilation_rate=2)(inputs)
    x = layers.Conv2D(4, 3, 2, padding="valid", activation="relu")(x)
    x = layers.MaxPooling2D(2, padding="same")(x)
    fitted = check(keras.Model(inputs, x), rng, [])
    assert fitted.layers[1].padding == "same"


def test_dilated_depthwise_convolutions_without_strides_stay(rng):
    inputs = keras.Input((9, 8, 3))
    x = layers.DepthwiseConv2D(3, padding="same", dilation_rate=(2, 2))(inputs)
    check(keras.Model(inputs, layers.DepthwiseConv2D(3, 2, "same")(x)), rng)


def test_shared_layers_and_nested_models_are_entered(rng):
    shared = layers.Conv2D(3, 3, 2, "same", name="shared")
    block = keras.Sequential(
        [keras.Input((3, 4, 3)), layers.DepthwiseConv2D(3, 2, "same")], name="block"
    )
    inputs = keras.Input((11, 14, 3))
    x = shared(shared(inputs))  # 11x14 to 6x7 to 3x4: other paddings each time
    fitted = check(keras.Model(inputs, layers.Flatten()(block(x)), name="net"), rng)
    assert [layer.name for layer in fitted.layers].count("shared") == 1
    assert len(fitted.trainable_weights) == 4


def test_masks_are_kept(rng):
    inputs = keras.Input((8, 8, 3))
    x = MaskedConv2D(4, 3, 2, "same", granularity="channel")(inputs)
    model = SCLModel(inputs, layers.GlobalAveragePooling2D()(x))
    (mask,) = find_masks(model)
    mask.variable.assign([[[[1, -1, 1, -1]]]])
    fitted = check(model, rng)
    assert isinstance(fitted, SCLModel)
    np.testing.assert_array_equal(find_masks(fitted)[0].variable, mask.variable)
    fitted.compile("sgd", "mse")
    fitted.train_on_batch(np.ones((2, 8, 8, 3)), np.ones((2, 4)))


def test_for_other_targets_it_is_a_copy(rng):
    stock = keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(2, 3, 2, "same")])
    copy = fit_to_target(stock, "size")
    x = rng.normal(size=(2, 8, 8, 3))
    np.testing.assert_array_equal(copy(x), stock(x))
    copy.layers[-1].bias.assign([1, 2])
    assert not np.any(stock.layers[-1].bias)
    assert find_masks(fit_to_target(sparsify(stock, copy=True), "xnnpack"))
