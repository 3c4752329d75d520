import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops
from maskable_layers import Bottleneck, MaskedBottleneck

from scl_keras import (
    MaskedDense,
    MaskedKernel,
    MaskedLayer,
    SCLModel,
    find_masks,
    sparsify,
    strip_masks,
    stripped,
    summary,
    unmasked_layers,
)
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.layers import MaskedEmbedding, MaskedLSTM


@keras.saving.register_keras_serializable("test_own_layers")
class Plain(layers.Layer):
    def build(self, input_shape):
        self.kernel = self.add_weight((input_shape[-1], 3), regularizer="l2")

    def call(self, x):
        return ops.matmul(x, self.kernel)


@keras.saving.register_keras_serializable("test_own_layers")
class MaskedPlain(MaskedLayer, Plain):
    kernel = MaskedKernel()


def random_masks(model, rng):
    kept = [rng.random(mask.variable.shape) < 0.6 for mask in find_masks(model)]
    for mask, values in zip(find_masks(model), kept, strict=True):
        mask.assign(values)
    return kept


@pytest.mark.parametrize("make", [Plain, lambda: Bottleneck(5, 2)])
def test_it_is_sparsified_saved_loaded_and_stripped(make, rng, tmp_path):
    stock = keras.Sequential([keras.Input((4,)), make(), layers.Dense(2)])
    x = rng.normal(size=(7, 4)).astype("float32")
    model = sparsify(stock, copy=True)
    np.testing.assert_array_equal(model(x), stock(x))
    assert unmasked_layers(model) == []
    kept = random_masks(model, rng)
    kernels = [w for w in stock.weights if len(w.shape) == 2]
    for kernel, values in zip(kernels, kept, strict=True):
        kernel.assign(kernel * values)
    np.testing.assert_array_equal(model(x), stock(x))
    model.save(tmp_path / "masked.keras")
    loaded = keras.models.load_model(tmp_path / "masked.keras")
    np.testing.assert_array_equal(loaded(x), stock(x))
    for a, b in zip(find_masks(loaded), kept, strict=True):
        np.testing.assert_array_equal(a.variable > 0, b)
    stripped_model = strip_masks(loaded, copy=True)
    assert [type(layer) for layer in stripped_model.layers[-2:]] == list(
        map(type, stock.layers)
    )
    np.testing.assert_array_equal(stripped_model(x), stock(x))
    assert find_masks(stripped_model) == []


def test_each_of_two_kernels_has_its_own_mask_and_gradient(rng):
    layer, stock = MaskedBottleneck(5, 2, ste="leaky_relu"), Bottleneck(5, 2)
    x = tf.constant(rng.normal(size=(7, 4)).astype("float32"))
    layer(x), stock(x)
    random_masks(layer, rng)
    names = ["squeeze", "expand"]
    v = {name: getattr(layer, name).numpy() for name in names}
    s = {name: layer.mask_of(name).variable.numpy() for name in names}
    for name in names:
        getattr(stock, name).assign(v[name] * (s[name] > 0))
        np.testing.assert_array_equal(
            layer.masked_kernels()[name], getattr(stock, name)
        )
    with tf.GradientTape(persistent=True) as tape:
        masked, expected = [tf.reduce_sum(net(x) ** 2) for net in (layer, stock)]
    assert float(masked) == float(expected)
    for name in names:
        dw = tape.gradient(expected, getattr(stock, name).value)
        dv = tape.gradient(masked, getattr(layer, name).value)
        ds = tape.gradient(masked, layer.mask_of(name).variable.value)
        np.testing.assert_allclose(dv, dw * (s[name] > 0), rtol=1e-6)
        np.testing.assert_allclose(
            ds, dw * v[name] * np.where(s[name] > 0, 1, 0.1), rtol=1e-5
        )


def test_the_regularizer_of_a_plain_kernel_sees_the_masked_one(rng):
    layer = MaskedPlain()
    layer.build((None, 4))
    (kept,) = random_masks(layer, rng)
    expected = 0.01 * np.sum(np.square(layer.kernel.numpy() * kept))
    np.testing.assert_allclose(layer.losses[0], expected, rtol=1e-6)


def test_a_layer_that_holds_masked_layers_can_call_them(rng, tmp_path):
    @keras.saving.register_keras_serializable("test_own_layers")
    class Block(layers.Layer):
        def __init__(self, **kwargs):
            super().__init__(**kwargs)
            self.dense = MaskedDense(3)

        def build(self, input_shape):
            self.dense.build(input_shape)

        def call(self, x):
            return self.dense(x)

    model = keras.Sequential([keras.Input((4,)), Block()])
    random_masks(model, rng)
    x = rng.normal(size=(2, 4)).astype("float32")
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    expected = model(x)
    with stripped(model) as stock:
        assert find_masks(stock) == []
        np.testing.assert_array_equal(stock(x), expected)
    # `sparsify` leaves what is masked already as it is.
    np.testing.assert_array_equal(sparsify(model, copy=True)(x), model(x))


@keras.saving.register_keras_serializable("test_own_layers")
class Encoder(layers.Layer):
    """Makes layers of its own: at once, in a list, in a wrapper and in `build`."""

    def __init__(self, units, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.first = layers.Dense(units, activation="tanh")
        self.more = [layers.Dense(units), layers.Dropout(0.5), Bottleneck(3, units)]
        self.steps = layers.TimeDistributed(layers.Dense(units))

    def build(self, input_shape):
        self.memory = layers.GRU(self.units, return_sequences=True)
        self.scale = self.add_weight((self.units,), "ones", name="scale")
        shape = (*input_shape[:-1], self.units)
        self.first.build(input_shape)
        for layer in [*self.more, self.steps, self.memory]:
            layer.build(shape)

    def call(self, x, training=None):
        x = self.first(x)
        for layer in self.more:
            x = layer(x)
        return self.memory(self.steps(x)) * self.scale

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "units": self.units}


@keras.saving.register_keras_serializable("test_own_layers")
class MaskedEncoder(MaskedLayer, Encoder):
    pass


def test_a_layer_that_makes_layers_masks_them_all(rng, tmp_path):
    stock = keras.Sequential([keras.Input((3, 4)), Encoder(4), layers.Dense(2)])
    x = rng.normal(size=(2, 3, 4)).astype("float32")
    model = sparsify(stock, ste="softplus", copy=True)
    np.testing.assert_array_equal(model(x), stock(x))
    assert unmasked_layers(model) == []
    names = [k.label.split("encoder/")[-1] for k in prunable_kernels(model)]
    assert len(set(names)) == len(find_masks(model)) == 1 + 3 + 1 + 2 + 1
    assert {type(mask.ste).__name__ for mask in find_masks(model)} == {"Softplus"}
    random_masks(model, rng)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    stripped_model = strip_masks(loaded, copy=True)
    np.testing.assert_array_equal(stripped_model(x), model(x))
    encoder = stripped_model.layers[-2]
    assert type(encoder) is Encoder
    assert [type(y) for y in encoder.more] == [
        layers.Dense,
        layers.Dropout,
        Bottleneck,
    ]


def test_a_layer_that_is_built_is_left_as_it_is(rng):
    class Tied(layers.Layer):
        def __init__(self, table):
            super().__init__()
            self.table = table

        def build(self, input_shape):
            self.kernel = self.add_weight((4, 3))

        def call(self, x):
            return ops.matmul(x, self.kernel) + self.table.embeddings[0]

    class MaskedTied(MaskedLayer, Tied):
        kernel = MaskedKernel()

    table = layers.Embedding(2, 3)
    table.build()
    layer = MaskedTied(table)
    layer(np.ones((1, 4), "float32"))
    assert layer.table is table
    assert len(find_masks(layer)) == 1
    assert unmasked_layers(layer) == [table]


def test_a_fused_operation_gets_the_masked_kernels_of_the_cell(monkeypatch, rng):
    """On a GPU a recurrent layer hands its cell's kernels to one operation."""
    layer = MaskedLSTM(3)
    layer.build((2, 5, 4))
    random_masks(layer, rng)
    seen = []
    stock_loop = layers.RNN.inner_loop

    def inner_loop(self, *args, **kwargs):
        seen.append([self.cell.kernel.numpy(), self.cell.recurrent_kernel.numpy()])
        return stock_loop(self, *args, **kwargs)

    monkeypatch.setattr(layers.RNN, "inner_loop", inner_loop)
    layer(rng.normal(size=(2, 5, 4)).astype("float32"))
    expected = layer.cell.masked_kernels()
    for value, name in zip(seen[0], ("kernel", "recurrent_kernel"), strict=True):
        np.testing.assert_array_equal(value, expected[name])
        assert np.any(value == 0)
    assert np.all(layer.cell.kernel.numpy() != 0)


def test_an_embedding_takes_the_weights_it_starts_with(rng):
    table = rng.normal(size=(5, 3)).astype("float32")
    for weights in (table, [table]):
        layer = MaskedEmbedding(5, 3, weights=weights)
        np.testing.assert_array_equal(layer(np.array([4, 0])), table[[4, 0]])


class Net(SCLModel):
    """The way to a subclassed model: `SCLModel` and masked layers."""

    def __init__(self):
        super().__init__()
        self.encoder = MaskedEncoder(4)
        self.head = MaskedDense(2)

    def call(self, x):
        return self.head(ops.mean(self.encoder(x), axis=1))


def test_a_subclassed_model_of_masked_layers_learns_its_masks(rng, tmp_path):
    model = Net()
    x = rng.normal(size=(8, 3, 4)).astype("float32")
    model(x)
    model.compile("sgd", "mse", run_eagerly=True, connection_cost=0.1)
    before = [mask.variable.numpy() for mask in find_masks(model)]
    model.fit(x, np.zeros((8, 2)), verbose=0)
    assert len(before) == 8
    for mask, old in zip(find_masks(model), before, strict=True):
        assert np.any(mask.variable.numpy() != old)
    assert len(summary(model, None).rows) == 8
    model.save_weights(tmp_path / "m.weights.h5")
    other = Net()
    other(x)
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(other(x), model(x))


def test_a_subclass_of_a_masked_layer_can_not_be_stripped():
    class Doubled(MaskedDense):
        def call(self, x):
            return 2 * super().call(x)

    model = keras.Sequential([keras.Input((4,)), Doubled(3)])
    with pytest.raises(ValueError, match=r"subclass of a masked.*Received.*Doubled"):
        strip_masks(model, copy=True)


def test_a_subclass_of_a_stock_layer_is_masked_as_it_computes(rng):
    class MyDense(layers.Dense):
        def call(self, x):
            return super().call(x) * 2

    model = keras.Sequential([keras.Input((4,)), MyDense(3, name="mine")])
    x = rng.normal(size=(2, 4)).astype("float32")
    expected, mine = model(x), model.layers[0]
    sparsify(model)
    np.testing.assert_array_equal(model(x), expected)
    assert isinstance(mine, MyDense) and isinstance(mine, MaskedLayer)
    (kept,) = random_masks(model, rng)
    expected = 2 * (x @ (mine.kernel.numpy() * kept))
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)
    strip_masks(model)
    assert type(mine) is MyDense
    np.testing.assert_allclose(model(x), expected, rtol=1e-5, atol=1e-6)


def test_a_masked_layers_own_call_may_call_the_stock_one(rng):
    class Doubled(MaskedDense):
        def call(self, x):
            return 2 * super().call(x)

    layer = Doubled(3)
    x = rng.normal(size=(2, 4)).astype("float32")
    layer(x)
    (kept,) = random_masks(layer, rng)
    expected = 2 * (x @ (layer.kernel.numpy() * kept))
    np.testing.assert_allclose(layer(x), expected, rtol=1e-5, atol=1e-6)


def test_masks_are_off_again_after_a_call_that_raised():
    layer = MaskedDense(3)
    layer.build((None, 4))
    layer.kernel_mask.assign(np.zeros((4, 3)))
    with pytest.raises(tf.errors.InvalidArgumentError):
        layer.call(tf.ones((2, 5)))
    assert layer.kernel is layer._kernel
