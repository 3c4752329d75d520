"""The recipe of Keras's guide to transfer learning, with masks."""

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import (
    SwitcherModel,
    TargetSparsity,
    find_masks,
    sparsify,
    strip_masks,
    summary,
)

LOSS = keras.losses.MeanSquaredError()


def base_model():
    inputs = keras.Input((8, 8, 3))
    x = layers.Conv2D(8, 3, use_bias=False, name="conv")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="norm")(x))
    x = layers.Conv2D(16, 3, name="last_conv")(x)
    return keras.Model(inputs, x, name="base")


def transferred(base):
    inputs = keras.Input((8, 8, 3))
    x = layers.Rescaling(2.0, offset=-1)(inputs)
    # The guide: inference mode, so that batch normalization stays when it is unfrozen.
    x = base(x, training=False)
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    return keras.Model(inputs, layers.Dense(1, name="head")(x))


@pytest.fixture
def data(rng):
    x = rng.random((64, 8, 8, 3)).astype("float32")
    return x, x.mean(axis=(1, 2, 3))[:, None]


def values(layer):
    return [np.array(w) for w in layer.weights]


def same(a, b):
    return [np.array_equal(x, y) for x, y in zip(a, b, strict=True)]


@pytest.mark.slow
def test_the_guides_recipe_from_a_frozen_base_to_fine_tuning(data):
    base = base_model()
    base.trainable = False
    model = transferred(base)
    stock_types = [type(x) for x in (model, base, *base.layers)]
    expected = model(data[0], training=False)
    sparsify(model)
    np.testing.assert_array_equal(model(data[0], training=False), expected)
    assert not base.trainable and not any(x.trainable for x in base.layers)
    head = model.get_layer("head")
    assert {id(v) for v in model.trainable_variables} == {id(v) for v in head.variables}

    model.compile(keras.optimizers.Adam(), LOSS, metrics=["mae"])
    before = values(base)
    model.fit(*data, epochs=3, verbose=0, callbacks=[TargetSparsity(0.005)])
    assert all(same(values(base), before))
    table = summary(model, None)
    assert table.connections - table.kept == round(0.005 * table.connections)
    assert table.rows[-1].kept == 16 - round(0.005 * table.connections)

    base.trainable = True
    assert all(m.variable.trainable for m in find_masks(model))
    model.compile(keras.optimizers.Adam(1e-5), LOSS, metrics=["mae"])
    model.fit(*data, epochs=3, verbose=0, callbacks=[TargetSparsity(0.6)])
    assert not any(same(values(base.get_layer("conv")), before[:2]))
    kept, size = (sum(int(f(m)) for m in find_masks(model)) for f in (_count, _size))
    assert kept == round(0.4 * size)

    expected = model.predict(data[0], verbose=0)
    strip_masks(model)
    assert [type(x) for x in (model, base, *base.layers)] == stock_types
    np.testing.assert_allclose(model.predict(data[0], verbose=0), expected, rtol=1e-5)


def _count(mask):
    return mask.count()


def _size(mask):
    return mask.size


@pytest.mark.slow
def test_a_base_alone_may_be_masked_in_a_model_around_it(data, tmp_path):
    """Masks of the base train with the outer model, once that is made for them."""
    base = base_model()
    model = transferred(base)
    sparsify(model, layers="base", granularity={"conv": "channel"})
    assert type(model.get_layer("head")) is layers.Dense
    model.compile("adam", LOSS)
    model.fit(*data, epochs=3, verbose=0, callbacks=[TargetSparsity(0.5)])
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    expected = model(data[0])
    np.testing.assert_array_equal(loaded(data[0]), expected)
    np.testing.assert_allclose(strip_masks(model)(data[0]), expected, atol=1e-6)


@pytest.mark.slow
def test_a_switcher_leaves_frozen_layers_alone(data):
    x = data[0].reshape(64, -1)
    model = keras.Sequential(
        [
            keras.Input((192,)),
            layers.Dense(16, "relu"),
            layers.Dense(8),
            layers.Dense(1),
        ]
    )
    SwitcherModel(model)
    model.layers[0].trainable = False
    before = values(model.layers[0])
    model.compile("adam", LOSS)
    model.fit(x, data[1], epochs=6, verbose=0, callbacks=[TargetSparsity(0.02)])
    assert all(same(values(model.layers[0]), before))
    kept, size = (sum(int(f(m)) for m in find_masks(model)) for f in (_count, _size))
    assert kept == round(0.98 * size)
