"""What a layer is called with besides its inputs, and what Keras fills in itself."""

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import compact, effective_masks, find_masks, sparsify
from scl_keras.connectivity import ELEMENTWISE, register_rule
from scl_keras.targets import check_target

ON_IMAGES = {
    "Dropout": lambda x: layers.Dropout(0.5)(x),
    "in training or not": lambda x: layers.Dropout(0.5)(x, training=None),
    "not in training": lambda x: layers.Dropout(0.5)(x, training=False),
    "by name": lambda x: layers.Dropout(0.5)(inputs=x),
    "whole samples": lambda x: layers.Dropout(0.5, noise_shape=(None, 1, 1, 1))(x),
    "each channel": lambda x: layers.Dropout(0.5, noise_shape=(None, 1, 1, 8))(x),
    "AlphaDropout": lambda x: layers.AlphaDropout(0.5)(x),
    "GaussianDropout": lambda x: layers.GaussianDropout(0.5)(x),
    "GaussianNoise": lambda x: layers.GaussianNoise(0.5)(x),
    "SpatialDropout2D": lambda x: layers.SpatialDropout2D(0.5)(x),
    "BatchNormalization": lambda x: layers.BatchNormalization()(x, training=False),
    "pooling": lambda x: layers.MaxPooling2D(2)(inputs=x),
    "convolution": lambda x: layers.Conv2D(5, 3)(inputs=x),
    "nested": lambda x: keras.Sequential(
        [keras.Input((6, 6, 8)), layers.Dropout(0.5), layers.ReLU()]
    )(x),
}


def convolutions(middle):
    inputs = keras.Input((8, 8, 3))
    x = middle(layers.Conv2D(8, 3, name="first", use_bias=False)(inputs))
    return keras.Model(inputs, layers.Conv2D(4, 1, name="last")(x))


def cut_first(model, count):
    kernel = keras.ops.convert_to_numpy(model.get_layer("first").kernel).copy()
    kernel[..., :count] = 0
    model.get_layer("first").kernel.assign(kernel)


def assert_same(a, b, rng):
    x = rng.normal(size=(3, *a.input_shape[1:])).astype("float32")
    expected = a.predict(x, verbose=0)
    np.testing.assert_allclose(b.predict(x, verbose=0), expected, atol=1e-5)


@pytest.mark.parametrize("case", ON_IMAGES)
def test_channels_go_through_what_is_called_as_by_default(case, rng):
    model = convolutions(ON_IMAGES[case])
    cut_first(model, 3)
    small = compact(model)
    assert small.get_layer("first").filters == 5
    assert_same(model, small, rng)
    small(np.zeros((2, 8, 8, 3), "float32"), training=True)  # noise fits what is left


@pytest.mark.parametrize("case", ON_IMAGES)
def test_their_masks_switch_channels(case, rng):
    model = convolutions(ON_IMAGES[case])
    rows = {row.layer: row for row in check_target(model, "compact").rows}
    assert rows["first/kernel"].gains
    masked = sparsify(model, runtime="compact", verbose=0)
    mask = find_masks(masked)[0]
    kept = np.arange(np.prod(mask.variable.shape)) >= 3
    mask.variable.assign(np.reshape(kept * 2.0 - 1, mask.variable.shape))
    assert compact(masked).get_layer("first").filters == 5


def test_a_head_of_dense_layers_and_dropout_shrinks(rng):
    """As VGG16 has it."""
    stack = [
        layers.Flatten(),
        layers.Dense(16, "relu", name="fc1"),
        layers.Dropout(0.5),
    ]
    stack += [layers.Dense(12, "relu", name="fc2"), layers.Dropout(0.5)]
    model = keras.Sequential([keras.Input((3, 3, 2)), *stack, layers.Dense(3)])
    kernel = keras.ops.convert_to_numpy(model.get_layer("fc1").kernel).copy()
    kernel[:, :8] = 0
    model.get_layer("fc1").kernel.assign(kernel)
    small = compact(model)
    assert small.count_params() == (18 + 1) * 8 + (8 + 1) * 12 + (12 + 1) * 3
    assert_same(model, small, rng)
    assert all(row.gains for row in check_target(model, "compact").rows)


class Scaled(keras.layers.Layer):
    def call(self, x, by=1.0):
        return x * by


register_rule(Scaled, rule=ELEMENTWISE)


def first_row(middle):
    return check_target(convolutions(middle), "compact").rows[0]


def test_an_argument_counts_only_if_it_is_not_the_default():
    assert first_row(lambda x: Scaled()(x, by=1.0)).gains
    row = first_row(lambda x: Scaled(name="two")(x, by=2.0))
    assert not row.gains
    assert "'two' (Scaled), called with by=2.0," in row.reason


@pytest.mark.parametrize(
    ("middle", "named"),
    [
        (lambda x: layers.LayerNormalization(name="ln")(x), "'ln' (LayerNorm"),
        (lambda x: layers.Conv2D(8, 1, groups=2, name="g")(x), "'g' (Conv2D)"),
        (lambda x: layers.Dropout(0.5, name="d")(x, training=True), "'d' (Dropout)"),
        (lambda x: layers.Softmax(name="s")(layers.ReLU()(x)), "'s' (Softmax)"),
    ],
)
def test_what_blocks_is_named(middle, named):
    row = first_row(middle)
    assert not row.gains and row.granularity is None
    assert named in row.reason


def test_an_input_or_an_activation_that_blocks_is_named():
    inputs = keras.Input((8,), name="image")
    x = layers.Add()([inputs, layers.Dense(8, name="a")(inputs)])
    x = layers.Dense(8, "softmax", name="b")(x)
    rows = check_target(keras.Model(inputs, layers.Dense(2)(x)), "compact").rows
    assert "input 'image'" in rows[0].reason
    assert "activation of 'b'" in rows[1].reason


def test_normalized_by_the_batch_positions_hang_together(rng):
    """In training mode a position is read by all, over the mean."""

    def used(training):
        inputs = keras.Input((3, 2))
        x = layers.ZeroPadding1D((0, 2))(inputs)
        x = layers.Cropping1D((3, 0))(layers.BatchNormalization()(x, training=training))
        return effective(keras.Model(inputs, layers.Dense(1)(x)))

    assert used(False) == 0
    assert used(True) == 2


def effective(model):
    return sum(int(mask.sum()) for mask in effective_masks(model).values())
