import os
import subprocess
import sys
import warnings

import keras
import numpy as np
import pytest

from scl_keras import find_masks, from_tf_keras, strip_masks, summary

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import tf_keras
    from tensorflow_model_optimization.sparsity import keras as tfmot
    from tf_keras import layers

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
RNG = np.random.default_rng(0)


def randomized(model):
    model.set_weights([0.5 + 0.5 * RNG.random(w.shape) for w in model.get_weights()])
    return model


def sequential():
    return tf_keras.Sequential(
        [
            layers.Conv2D(4, 3, activation="relu", input_shape=(8, 8, 2)),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(5, activation="softmax", kernel_regularizer="l2"),
        ]
    )


def residual():
    inputs = tf_keras.Input((8, 8, 2), name="image")
    x = layers.Conv2D(4, 3, strides=2, padding="same", use_bias=False)(inputs)
    x = layers.BatchNormalization()(x)
    y = layers.DepthwiseConv2D(3, padding="same", activation="relu")(x)
    z = layers.SeparableConv2D(4, 3, padding="same", activation="tanh")(x)
    x = layers.Add()([x, y, z])
    x = layers.Concatenate()([x, layers.Conv2DTranspose(2, 1)(y)])
    x = layers.Dropout(0.3)(layers.GlobalAveragePooling2D()(x))
    return tf_keras.Model(inputs, layers.Dense(3)(x), name="residual")


def nested_and_shared():
    a, b = tf_keras.Input((6,), name="a"), tf_keras.Input((6,), name="b")
    deferred = tf_keras.Sequential([layers.Dense(4), layers.ReLU()], name="deferred")
    inner_input = tf_keras.Input((4,))
    shared = layers.Dense(4, name="shared")
    inner = tf_keras.Model(inner_input, shared(shared(inner_input)), name="inner")
    p, q = inner(deferred(a)), inner(deferred(b))
    outputs = [layers.Dense(2, name="one")(p), layers.Multiply(name="two")([p, q])]
    return tf_keras.Model([a, b], outputs, name="nested")


def recurrent():
    inputs = tf_keras.Input((7,), dtype="int32")
    x = layers.Embedding(9, 4)(inputs)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(4))(x)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    return tf_keras.Model(inputs, layers.GRU(2)(layers.LayerNormalization()(x)))


def inputs_like(model):
    shapes = [tuple(n or 3 for n in x.shape) for x in model.inputs]
    return [
        RNG.integers(0, 9, shape).astype(x.dtype)
        if x.dtype == "int32"
        else RNG.normal(size=shape).astype("float32")
        for shape, x in zip(shapes, model.inputs, strict=True)
    ]


@pytest.mark.parametrize(
    "build",
    [sequential, residual, nested_and_shared, recurrent],
    ids=lambda f: f.__name__,
)
def test_weights_names_and_outputs_are_the_same(build):
    legacy = randomized(build())
    model = from_tf_keras(legacy)
    x = inputs_like(model)
    x = x[0] if len(x) == 1 else x
    expected = keras.tree.flatten(legacy(x, training=False))
    found = keras.tree.flatten(model(x, training=False))
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-5)
    assert model.name == legacy.name
    names = [layer.name for layer in legacy.layers]
    assert {layer.name for layer in model.layers} >= {
        n for n in names if "input" not in n
    }
    assert sum(w.size for w in legacy.get_weights()) == sum(
        int(np.prod(w.shape))
        for w in model.weights
        if not hasattr(w, "connection_mask")
    )


@pytest.mark.slow
def test_a_model_pruned_by_tfmot_comes_over_and_stays_pruned():
    schedule = tfmot.ConstantSparsity(0.75, begin_step=0, frequency=1)
    wrapped = tfmot.prune_low_magnitude(randomized(residual()), schedule)
    wrapped.compile("sgd", "mse")
    x, y = RNG.normal(size=(8, 8, 8, 2)), np.ones((8, 3))
    wrapped.fit(x, y, epochs=2, verbose=0, callbacks=[tfmot.UpdatePruningStep()])
    with pytest.raises(ValueError, match="strip_pruning"):
        from_tf_keras(wrapped)
    stripped = tfmot.strip_pruning(wrapped)
    model = from_tf_keras(stripped)
    np.testing.assert_allclose(model(x), stripped(x), rtol=1e-4, atol=1e-5)
    before = [np.array(mask.kept()) for mask in find_masks(model)]
    kernel = stripped.layers[1].get_weights()[0]
    np.testing.assert_array_equal(before[0], kernel != 0)
    assert np.mean(before[0] == 0) == pytest.approx(0.75, abs=0.02)
    model.compile("adam", "mse")
    model.fit(x, y, epochs=2, verbose=0)
    for mask, kept in zip(find_masks(model), before, strict=True):
        np.testing.assert_array_equal(mask.kept(), kept)
    cut = sum(int(np.sum(kept == 0)) for kept in before)
    table = summary(
        strip_masks(model, copy=True), print_fn=None
    )  # with TFMOT's dense layers
    assert table.connections - table.kept == cut > 0


def test_what_cannot_come_over():
    class Custom(layers.Dense):
        pass

    def functional(layer):
        inputs = tf_keras.Input((4,))
        return tf_keras.Model(inputs, layer(inputs))

    class Subclassed(tf_keras.Model):
        def call(self, x):
            return x

    for layer in (Custom(2, name="odd"), layers.Lambda(lambda x: 2 * x, name="odd")):
        with pytest.raises(ValueError, match="Layer 'odd' .* has no counterpart"):
            from_tf_keras(functional(layer))
    with pytest.raises(ValueError, match="has no counterpart in Keras 3"):
        from_tf_keras(functional(lambda x: x + 1))
    subclassed = Subclassed()
    subclassed(np.ones((1, 2)))
    for model in (subclassed, tf_keras.Sequential([layers.Dense(2)])):
        with pytest.raises(ValueError, match="built functional or Sequential"):
            from_tf_keras(model)
    own = keras.Sequential([keras.Input((4,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="model of the legacy `tf_keras`.*Received"):
        from_tf_keras(own)


def test_layers_that_compute_something_else_are_noticed():
    legacy = sequential()
    legacy.layers[0].activation = tf_keras.activations.sigmoid
    legacy.layers[0].get_config = lambda: {
        **type(legacy.layers[0]).get_config(legacy.layers[0]),
        "activation": "relu",
    }
    with pytest.raises(ValueError, match="has other outputs in Keras 3"):
        from_tf_keras(legacy)


@pytest.mark.slow
def test_tf_keras_need_not_be_there():
    code = "import sys; sys.modules['tf_keras'] = None; import scl_keras"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(p for p in sys.path if p),
    }
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
