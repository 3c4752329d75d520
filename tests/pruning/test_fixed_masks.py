import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import TargetSparsity, find_masks, fix_masks, sparsify, strip_masks
from scl_keras.layers.masked_layer import MaskedLayer


def stock():
    return keras.Sequential(
        [keras.Input((6,)), layers.Dense(5, activation="relu"), layers.Dense(2)]
    )


def fixed(rng):
    model = sparsify(stock(), ste=None)
    for mask in find_masks(model):
        mask.assign(rng.random(mask.variable.shape) < 0.5)
    return model


def kept(model):
    return [keras.ops.convert_to_numpy(mask.kept()) for mask in find_masks(model)]


def same(a, b):
    return all(np.array_equal(x, y) for x, y in zip(a, b, strict=True))


DATA = np.random.default_rng(1).normal(size=(64, 6)), np.ones((64, 2))


@pytest.mark.parametrize("kind", ["scl", "stock", "saved", "cloned", "unfrozen"])
def test_fit_trains_weights_and_never_fixed_masks(kind, rng, tmp_path):
    model = fixed(rng)
    before = kept(model)
    if kind == "stock":
        model = keras.Model(model.inputs, model.outputs)
    if kind == "saved":
        model.save(tmp_path / "model.keras")
        model = keras.models.load_model(tmp_path / "model.keras")
    if kind == "cloned":
        clone = keras.models.clone_model(model)
        clone.set_weights(model.get_weights())
        model = clone
    if kind == "unfrozen":
        model.trainable = False
        model.trainable = True
    assert same(kept(model), before) and not np.all(before[0])
    values = keras.ops.convert_to_numpy(model.trainable_variables[0])
    optimizer = keras.optimizers.AdamW(0.1, weight_decay=0.1)
    # Keras makes a stock model of a Sequential that is cloned.
    options = {} if kind in ("stock", "cloned") else {"connection_cost": 10.0}
    model.compile(optimizer, "mse", **options)
    model.fit(*DATA, epochs=3, verbose=0)
    assert same(kept(model), before)
    assert not np.allclose(values, model.trainable_variables[0])
    assert len(model.trainable_variables) == 4


def test_gradients_of_values_are_those_of_the_masked_kernel(rng):
    import tensorflow as tf

    model = fixed(rng)
    x, y = (a.astype("float32") for a in DATA)

    def gradients(model):
        kernels = [layer.kernel for layer in model.layers if hasattr(layer, "kernel")]
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(x) - y) ** 2)
        return tape.gradient(loss, [k.value for k in kernels])

    pairs = zip(
        gradients(model),
        gradients(strip_masks(model, copy=True)),
        kept(model),
        strict=True,
    )
    for found, dense, mask in pairs:
        np.testing.assert_allclose(found, dense.numpy() * mask, rtol=1e-5, atol=1e-7)


def test_fix_masks_keeps_what_was_learned():
    model = sparsify(stock())
    for mask in find_masks(model):
        mask.variable.assign(np.random.default_rng(0).normal(size=mask.variable.shape))
    copy = fix_masks(model, copy=True)
    assert same(kept(copy), kept(model))
    np.testing.assert_allclose(copy(DATA[0]), model(DATA[0]), rtol=1e-6)
    assert not any(mask.is_learned for mask in find_masks(copy))
    assert all(mask.is_learned for mask in find_masks(model))
    # Also the values of cut connections are there.
    for old, new in zip(model.layers, copy.layers, strict=True):
        if isinstance(old, MaskedLayer):
            np.testing.assert_array_equal(old.kernel, new.kernel)
    with pytest.raises(ValueError, match="needs a model with masked layers"):
        fix_masks(stock())


def test_target_sparsity_refuses_fixed_masks(rng):
    model = fixed(rng)
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="no mask that training moves.*are fixed"):
        model.fit(*DATA, verbose=0, callbacks=[TargetSparsity(0.5)])


def every_kind_of_layer():
    tokens = keras.Input((6,), dtype="int32")
    x = layers.Embedding(9, 8)(tokens)
    x = layers.MultiHeadAttention(2, 4)(x, x)
    x = layers.SeparableConv1D(8, 3, padding="same")(x)
    x = layers.TimeDistributed(layers.Dense(6))(x)
    x = layers.Bidirectional(layers.LSTM(4, return_sequences=True))(x)
    x = layers.RNN(layers.GRUCell(4))(x)
    return keras.Model(tokens, layers.Dense(2)(x))


@pytest.mark.parametrize("way", ["fixed", "sparsified"])
def test_masks_inside_of_wrappers_and_cells_are_fixed_too(way, rng):
    stock = every_kind_of_layer()
    learned = sparsify(stock, copy=True)
    for mask in find_masks(learned):
        mask.assign(rng.random(mask.variable.shape) < 0.7)
    model = (
        fix_masks(learned, copy=True)
        if way == "fixed"
        else sparsify(stock, ste=None, copy=True)
    )
    assert len(find_masks(model)) == len(find_masks(learned)) > 10
    x = rng.integers(0, 9, (4, 6))
    expected = (learned if way == "fixed" else stock).predict(x, verbose=0)
    np.testing.assert_allclose(model.predict(x, verbose=0), expected, rtol=1e-5)
    if way == "fixed":
        assert same(kept(model), kept(learned))
    variables = {id(v) for v in model.trainable_variables}
    assert not any(id(mask.variable) in variables for mask in find_masks(model))
    assert len(variables) == len(stock.trainable_variables)
