"""Channels that are switched off are zero, and can be removed."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from scl_keras import (
    MaskedDense,
    SCLModel,
    SCLSequential,
    TargetSparsity,
    compact,
    find_masks,
    fix_masks,
    sparsify,
    strip_masks,
    summary,
)
from scl_keras.architectures import build_architecture
from scl_keras.layers import MaskedBatchNormalization, MaskedConv2D


def channels(model):
    """All layers but the last switch channels; MobileNet's depthwise ones go along."""
    last = model.layers[-1].name
    return lambda layer: (
        None
        if layer.name == last or isinstance(layer, layers.DepthwiseConv2D)
        else "channel"
    )


def randomize(model, rng):
    for w in (w for layer in model.layers for w in layer.weights if len(w.shape) == 1):
        w.assign(0.5 + rng.random(w.shape))


def cut_channels(model, rng, share=0.5):
    for mask in find_masks(model):
        kept = rng.random(mask.variable.shape) < share
        mask.variable.assign(np.where(kept, 1, -1))


NETS = [
    ("mobilenet", {"width": 0.25}, 0.45),
    ("resnet", {"depth": 8, "width": 0.5}, 0.75),
    ("vgg", {"width": 0.125}, 0.45),
    ("lenet_5", {}, 0.5),
]


@pytest.mark.parametrize(("name", "arguments", "share"), NETS, ids=lambda x: str(x))
def test_networks_shrink_and_compute_the_same(name, arguments, share, rng):
    stock = build_architecture(name, (16, 16, 1), 10, **arguments)
    randomize(stock, rng)
    model = sparsify(stock, granularity=channels(stock), copy=True)
    x = rng.normal(size=(3, 16, 16, 1)).astype("float32")
    for training in (False, True):
        expected = stock(x, training=training)
        np.testing.assert_array_equal(model(x, training=training), expected)
    cut_channels(model, rng)
    stripped, small = strip_masks(model, copy=True), compact(model)
    np.testing.assert_allclose(stripped(x), model(x), atol=1e-5)
    np.testing.assert_allclose(small(x), model(x), atol=1e-4)
    assert small.count_params() < share * stock.count_params()
    masked = [x for x in model.layers if getattr(x, "channel_mask", None) is not None]
    for layer in masked:
        kept = int((layer.channel_mask.variable.numpy() > 0).sum())
        # Where channels are added up, one that any of the terms has stays.
        if name != "resnet" or layer.name.endswith("conv1"):
            assert small.get_layer(layer.name).kernel.shape[-1] == kept
    rows = [[r.kept for r in summary(m, None).rows] for m in (model, stripped)]
    assert rows[0] == rows[1]


def normalized(activation=layers.ReLU, **kwargs):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", name="conv", **kwargs)(inputs)
    x = layers.BatchNormalization(name="bn")(x)
    x = layers.Conv2D(3, 3, padding="same", name="next")(activation()(x))
    return keras.Model(inputs, layers.GlobalAveragePooling2D()(x))


def gradients(model, x, variables):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(model(x, training=True)))
    found = tape.gradient(loss, [v.value for v in variables])
    return [tf.convert_to_tensor(g).numpy().ravel() for g in found]


@pytest.mark.parametrize("bias", [False, True])
def test_behind_normalization_a_mask_learns_what_its_channel_is_worth(bias, rng):
    """dL/ds is dL/dγ · γ + dL/dβ · β of the stock network; dL/dw · w would be zero."""
    stock = normalized(use_bias=bias)
    randomize(stock, rng)
    stock.get_layer("bn").beta.assign(rng.normal(size=4))
    x = rng.normal(size=(5, 6, 6, 2)).astype("float32")
    bn, conv = stock.get_layer("bn"), stock.get_layer("conv")
    of_gamma, of_beta, of_kernel = gradients(stock, x, [bn.gamma, bn.beta, conv.kernel])
    expected = of_gamma * bn.gamma.numpy() + of_beta * bn.beta.numpy()
    along = (of_kernel.reshape(-1, 4) * conv.kernel.numpy().reshape(-1, 4)).sum(0)
    np.testing.assert_allclose(along, 0, atol=2e-2 * np.abs(expected).max())
    model = sparsify(stock, ["conv", "bn"], granularity="channel", copy=True)
    (mask,) = find_masks(model)
    (found,) = gradients(model, x, [mask.variable])
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    "activation", [layers.ReLU, layers.ELU, lambda: layers.Activation("relu")]
)
def test_a_channel_comes_back_as_it_was(activation, rng):
    stock = normalized(activation)
    model = sparsify(stock, granularity={"conv": "channel", "next": None}, copy=True)
    x = rng.normal(size=(4, 6, 6, 2)).astype("float32")
    before = model(x)
    (mask,) = find_masks(model)
    mask.variable.assign([[[[1, -1, 1, -1]]]])
    inner = keras.Model(model.input, model.layers[3].output)
    np.testing.assert_array_equal(inner(x)[..., 1::2], 0)
    assert np.abs(inner(x)[..., ::2]).max(axis=(0, 1, 2)).min() > 0
    mask.variable.assign([[[[1, 1, 1, 1]]]])
    np.testing.assert_array_equal(model(x), before)
    mask.variable.assign([[[[1, -1, 1, -1]]]])
    assert np.all(gradients(model, x, [mask.variable])[0] != 0)


def test_without_normalization_biases_go_too(rng):
    inputs = keras.Input((5,))
    layer = MaskedDense(4, "relu", granularity="channel", bias_initializer="ones")
    model = SCLModel(inputs, layer(inputs))
    layer.kernel_mask.variable.assign([[1, -1, 1, -1]])
    x = rng.normal(size=(6, 5)).astype("float32")
    np.testing.assert_array_equal(model(x)[:, 1::2], 0)
    np.testing.assert_array_equal(layer.bias, np.ones(4))
    stock = strip_masks(model, copy=True).layers[-1]
    np.testing.assert_array_equal(stock.bias, [1, 0, 1, 0])
    inner = MaskedDense(4, "relu", bias_initializer="ones")  # by connection: it stays
    model = SCLModel(inputs, inner(inputs))
    inner.kernel_mask.assign(np.zeros((5, 4)))
    np.testing.assert_array_equal(model(x), np.ones((6, 4)))


def shared_by_two(x):
    y = layers.Conv2D(4, 1, name="conv")(x)
    return layers.Add()([layers.BatchNormalization(name="bn")(y), y])


def another_axis(x):
    y = layers.Conv2D(4, 1, name="conv")(x)
    return layers.BatchNormalization(axis=1, name="bn")(y)


def sigmoid(x):
    y = layers.Conv2D(4, 1, activation="sigmoid", name="conv")(x)
    return layers.BatchNormalization(name="bn")(y)


def called_twice(x):
    conv, bn = layers.Conv2D(2, 1, name="conv"), layers.BatchNormalization(name="bn")
    return bn(conv(bn(conv(x))))


@pytest.mark.parametrize("make", [shared_by_two, another_axis, sigmoid, called_twice])
def test_only_what_is_the_masks_alone_is_switched(make, rng):
    inputs = keras.Input((4, 4, 2))
    stock = keras.Model(inputs, make(inputs))
    model = sparsify(stock, granularity="channel", copy=True)
    assert type(model.get_layer("bn")) is layers.BatchNormalization
    cut_channels(model, rng)
    x = rng.normal(size=(2, 4, 4, 2)).astype("float32")
    np.testing.assert_allclose(strip_masks(model, copy=True)(x), model(x), atol=1e-6)


def nested():
    block = keras.Sequential(
        [
            keras.Input((4, 4, 2)),
            layers.Conv2D(4, 3, name="conv"),
            layers.BatchNormalization(name="bn"),
        ]
    )
    inputs = keras.Input((4, 4, 2))
    return keras.Model(inputs, layers.ELU()(block(inputs)))


def sequential():
    return SCLSequential(
        [
            keras.Input((4, 4, 2)),
            MaskedConv2D(4, 3, granularity="channel"),
            MaskedBatchNormalization(),
        ]
    )


@pytest.mark.parametrize(
    "make", [lambda: sparsify(nested(), granularity="channel"), sequential]
)
def test_files_clones_and_copies_stay_connected(make, rng, tmp_path):
    model = make()
    for w in (w for w in model.weights if "moving" in w.path):
        w.assign(0.5 + rng.random(w.shape))
    cut_channels(model, rng)
    x = rng.normal(size=(2, 4, 4, 2)).astype("float32")
    expected = model(x)
    assert np.any(np.all(expected == 0, axis=(0, 1, 2)))
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    others = [loaded, fix_masks(model, copy=True)]
    if not isinstance(model, SCLSequential):  # of which Keras makes a stock model
        others.append(keras.models.clone_model(model))
        others[-1].set_weights(model.get_weights())
    for other in others:
        np.testing.assert_allclose(other(x), expected, atol=1e-6)
        (mask,) = find_masks(other)
        mask.variable.assign(np.ones(mask.variable.shape))
        assert not np.any(np.all(other(x) == 0, axis=(0, 1, 2)))
    stripped = strip_masks(model, copy=True)
    np.testing.assert_allclose(stripped(x), expected, atol=1e-6)
    for copy in (model, stripped):
        assert len(copy.weights) == 6 + len(find_masks(copy))


@pytest.mark.parametrize("policy", ["float32", "mixed_float16"])
def test_it_trains_to_a_target_compiled(policy, rng):
    keras.mixed_precision.set_dtype_policy(policy)
    try:
        stock = normalized()
    finally:
        keras.mixed_precision.set_dtype_policy("float32")
    model = sparsify(stock, granularity={"conv": "channel", "next": None}, copy=True)
    model.compile("adam", "mse", jit_compile=True)
    x = rng.normal(size=(32, 6, 6, 2))
    model.fit(x, rng.normal(size=(32, 3)), 8, 3, 0, callbacks=[TargetSparsity(0.5)])
    small = compact(model)
    assert small.get_layer("conv").filters == 2
    np.testing.assert_allclose(small(x), model(x), atol=2e-2, rtol=1e-2)
