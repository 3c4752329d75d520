from fractions import Fraction

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from scl_keras import sparsify
from scl_keras.pruning import PrunableNetwork
from scl_keras.pruning.flow import SynapticFlow


def network_of(inputs, outputs, rng):
    model = keras.Model(inputs, outputs)
    for weight in model.weights:
        values = rng.normal(size=weight.shape)
        is_variance = "variance" in weight.path
        weight.assign(np.abs(values) + 0.1 if is_variance else values)
    return PrunableNetwork(sparsify(model, ste=None, copy=True))


def scores_of(network):
    flow = SynapticFlow(network.graph)
    return flow.log_scores(network.kernels, network.weights())


def exact_chain_scores(kernels):
    """`w ∂R/∂w` of a chain of Dense layers, in fractions."""
    kernels = [np.vectorize(lambda x: Fraction(float(abs(x))))(k) for k in kernels]
    before = [np.full(kernels[0].shape[0], Fraction(1))]
    for kernel in kernels:
        before.append(before[-1] @ kernel)
    after = [np.full(kernels[-1].shape[1], Fraction(1))]
    for kernel in reversed(kernels):
        after.append(kernel @ after[-1])
    after.reverse()
    return [
        np.outer(before[i], after[i + 1]) * kernel for i, kernel in enumerate(kernels)
    ]


def log(fraction):
    if not fraction:
        return -np.inf
    shift = fraction.numerator.bit_length() - fraction.denominator.bit_length()
    return float(np.log(float(fraction / Fraction(2) ** shift))) + shift * np.log(2)


@pytest.mark.parametrize("scale", [1e-8, 1e8])
def test_deep_chain_equals_fractions(scale, rng):
    inputs = x = keras.Input((3,))
    for _ in range(200):
        x = layers.Dense(3, use_bias=False, activation="relu")(x)
    model = keras.Model(inputs, x)
    for weight in model.weights:
        weight.assign(rng.normal(size=weight.shape) * scale)
    network = PrunableNetwork(sparsify(model, ste=None, copy=True))
    masks = [rng.random(shape) < 0.8 for shape in network.shapes]
    network.keep(masks)
    found = scores_of(network)
    expected = exact_chain_scores(network.weights())
    for log_scores, fractions in zip(found, expected, strict=True):
        wanted = np.vectorize(log, otypes=[float])(fractions)
        np.testing.assert_allclose(log_scores, wanted, rtol=1e-12, atol=1e-9)
    # Far beyond what float64 can hold.
    alive = np.concatenate([s[np.isfinite(s)] for s in found])
    assert np.abs(alive).max() > 3000


def test_shares_of_every_layer_add_up_to_the_flow_through_skip_connections(rng):
    # Conservation (Tanaka et al., theorem 1), on a graph that leaves float64.
    inputs = keras.Input((4,))
    x = layers.Dense(4, use_bias=False, name="first")(inputs)
    for _ in range(30):
        y = layers.Dense(4, use_bias=False, activation="relu")(x)
        x = layers.Add()([x, layers.Dense(4, use_bias=False)(y)])
    outputs = layers.Dense(2, use_bias=False, name="last")(x)
    model = keras.Model(inputs, outputs)
    for weight in model.weights:
        weight.assign(1e9 * rng.normal(size=weight.shape))
    network = PrunableNetwork(sparsify(model, ste=None, copy=True))
    flow = SynapticFlow(network.graph)
    weights = network.weights()
    total = float(flow.log_total(network.kernels, weights))
    scores = dict(
        zip(
            [kernel.layer.name for kernel in network.kernels],
            flow.log_scores(network.kernels, weights),
            strict=True,
        )
    )
    assert total > 750
    for name in ("first", "last"):
        assert np.logaddexp.reduce(scores[name], axis=None) == pytest.approx(total)


def residual(x):
    y = layers.Conv2D(4, 3, strides=2, padding="same")(x)
    y = layers.BatchNormalization()(y)
    y = layers.ReLU()(y)
    y = layers.SeparableConv2D(4, 3, padding="same", depth_multiplier=2)(y)
    z = layers.Conv2D(4, 1, strides=2)(x)
    y = layers.Concatenate()([layers.Add()([y, z]), z])
    y = layers.DepthwiseConv2D(2, dilation_rate=2)(y)
    y = layers.AveragePooling2D(2)(y)
    y = layers.GlobalAveragePooling2D()(y)
    y = layers.LayerNormalization(scale=False, center=False)(y)
    return layers.Dense(3, activation="softmax")(y)


class AbsoluteTwin(keras.layers.Layer):
    """What synaptic flow takes for a normalization layer, in plain Keras."""

    def __init__(self, layer):
        super().__init__(dtype="float64")
        self.scale, self.shift = 1.0, 0.0
        if not isinstance(layer, layers.BatchNormalization):
            return
        gamma, beta, mean, variance = (
            keras.ops.convert_to_numpy(w).astype("float64") for w in layer.weights
        )
        self.scale = np.abs(gamma) / np.sqrt(variance + layer.epsilon)
        self.shift = np.abs(beta - gamma * mean / np.sqrt(variance + layer.epsilon))

    def call(self, x, mask=None):
        return x * self.scale + self.shift


def test_equals_autodiff_of_the_absolute_network(rng):
    inputs = keras.Input((9, 9, 2))
    model = keras.Model(inputs, residual(inputs))
    for weight in model.weights:
        values = rng.normal(size=weight.shape)
        weight.assign(np.abs(values) + 0.1 if "variance" in weight.path else values)
    network = PrunableNetwork(sparsify(model, ste=None, copy=True))
    kept = [rng.random(shape) < 0.7 for shape in network.shapes]
    network.keep(kept)
    found = scores_of(network)
    names = {id(k.layer): k.layer.name for k in network.kernels}
    masks = {
        (names[id(k.layer)], k.name): m
        for k, m in zip(network.kernels, kept, strict=True)
    }

    def twin(layer):
        if isinstance(layer, (layers.BatchNormalization, layers.LayerNormalization)):
            return AbsoluteTwin(layer)
        config = layer.get_config()
        config["dtype"] = "float64"
        if "activation" in config:
            config["activation"] = "linear"
        return type(layer).from_config(config)

    double = keras.Input((9, 9, 2), dtype="float64")
    copy = keras.models.clone_model(model, double, clone_function=twin)
    kernels = {}
    for layer in model.layers:
        if not layer.weights or isinstance(layer, layers.BatchNormalization):
            continue
        target = copy.get_layer(layer.name)
        for old, new in zip(layer.weights, target.weights, strict=True):
            values = np.abs(keras.ops.convert_to_numpy(old)).astype("float64")
            mask = masks.get((layer.name, old.name))
            new.assign(values if mask is None else values * mask)
            kernels[layer.name, old.name] = new
    variables = [kernels[names[id(k.layer)], k.name] for k in network.kernels]
    with tf.GradientTape() as tape:
        total = tf.reduce_sum(copy(np.ones((1, 9, 9, 2))))
    gradients = tape.gradient(total, [v.value for v in variables])
    assert len(variables) >= 3
    for variable, gradient, log_scores in zip(variables, gradients, found, strict=True):
        expected = keras.ops.convert_to_numpy(variable) * gradient.numpy()
        np.testing.assert_allclose(np.exp(log_scores), expected, rtol=1e-9)
    flow = SynapticFlow(network.graph).log_total(network.kernels, network.weights())
    np.testing.assert_allclose(np.exp(flow), total.numpy(), rtol=1e-9)


def test_shared_layer_has_the_sum_of_its_calls(rng):
    inputs = keras.Input((2,))
    shared = layers.Dense(2, use_bias=False)
    network = network_of(inputs, shared(shared(inputs)), rng)
    ((scores,), (w,)) = scores_of(network), np.abs(network.weights())
    ones = np.ones(2)
    gradient = np.outer(ones, w @ ones) + np.outer(ones @ w, ones)
    np.testing.assert_allclose(np.exp(scores), w * gradient)


@pytest.mark.parametrize("kind", ["Max", "Average"])
def test_adaptive_pooling_is_a_mean(kind, rng):
    inputs = keras.Input((4, 3))
    x = layers.Dense(2, use_bias=False)(inputs)
    x = layers.Flatten()(getattr(layers, f"Adaptive{kind}Pooling1D")(2)(x))
    network = network_of(inputs, layers.Dense(3, use_bias=False)(x), rng)
    first, last = scores_of(network)
    v, w = map(np.abs, network.weights())
    means = np.tile(v.sum(0), 2)
    np.testing.assert_allclose(np.exp(last), means[:, None] * w)
    behind = w.sum(1).reshape(2, 2).sum(0)
    np.testing.assert_allclose(np.exp(first), v * behind)


def test_kernels_of_unknown_layers_are_refused(rng):
    @keras.saving.register_keras_serializable("test_flow")
    class Odd(layers.Dense):
        def call(self, x):
            return 2 * super().call(x)

    from scl_keras import MaskedKernel, MaskedLayer

    @keras.saving.register_keras_serializable("test_flow")
    class MaskedOdd(MaskedLayer, Odd):
        kernel = MaskedKernel()

    inputs = keras.Input((2,))
    network = network_of(inputs, Odd(2)(inputs), rng)
    with pytest.raises(ValueError, match="isn't known.*stand_in"):
        scores_of(network)
    inputs = keras.Input((3, 2))
    network = network_of(inputs, layers.LSTM(2, name="memory")(inputs), rng)
    with pytest.raises(ValueError, match="isn't known.*'memory'.*`layers`"):
        scores_of(network)
