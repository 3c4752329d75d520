"""Models of a user's own: what they compute with, in whatever way they hold it."""

import keras
import numpy as np
import pytest
from keras import layers, ops

from scl_keras import (
    MaskedLayer,
    SCLModel,
    TargetSparsity,
    find_masks,
    sparsify,
    strip_masks,
    stripped,
    summary,
    unmasked_layers,
)
from scl_keras.graph.tracing import trace


@keras.saving.register_keras_serializable("any_model")
class Parts(keras.Model):
    """Layers in a list, in a dict, and in a layer of one's own; a head that is tied."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.words = layers.Embedding(11, 6)
        self.steps = [layers.Dense(6, "relu"), layers.Dense(6)]
        self.named = {"in": layers.Dense(5, "relu"), "out": layers.Dense(6)}
        self.wrapped = layers.TimeDistributed(layers.Dense(6))

    def call(self, tokens):
        x = self.words(tokens)
        for step in self.steps:
            x = x + step(x)
        x = self.wrapped(x + self.named["out"](self.named["in"](x)))
        # Past the embedding's call: it has to be the masked table all the same.
        return x @ ops.transpose(self.words.embeddings)


@pytest.fixture
def tokens(rng):
    return rng.integers(0, 11, (16, 4))


@pytest.fixture
def parts(tokens):
    model = Parts()
    model(tokens)
    return model


def cut_half(model, rng):
    for mask in find_masks(model):
        mask.assign(rng.random(mask.variable.shape) < 0.5)


def test_all_parts_are_masked_wherever_they_are_held(parts, tokens, rng):
    expected = parts(tokens)
    sparsify(parts)
    np.testing.assert_array_equal(parts(tokens), expected)
    assert unmasked_layers(parts) == [] and len(find_masks(parts)) == 6
    cut_half(parts, rng)
    expected = parts(tokens)
    assert np.array(parts.words.embeddings).all()  # outside of calls: the values
    strip_masks(parts)
    assert type(parts) is Parts
    np.testing.assert_array_equal(parts(tokens), expected)


def test_a_subclassed_model_trains_saves_and_loads_with_masks(parts, tokens, tmp_path):
    sparsify(parts)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    parts.compile("adam", loss)
    parts.fit(tokens, tokens, 4, 3, verbose=0, callbacks=[TargetSparsity(0.6)])
    size = sum(mask.size for mask in find_masks(parts))
    assert sum(int(m.count()) for m in find_masks(parts)) == round(0.4 * size)
    expected = parts.predict(tokens, verbose=0)
    parts.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    assert type(loaded) is type(parts) and isinstance(loaded, Parts)
    np.testing.assert_array_equal(loaded.predict(tokens, verbose=0), expected)
    loaded.fit(tokens, tokens, verbose=0)
    parts.save_weights(tmp_path / "m.weights.h5")
    other = Parts()
    other(tokens)
    sparsify(other).load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(other.predict(tokens, verbose=0), expected)
    with stripped(parts) as stock:
        stock.save(tmp_path / "stock.keras")
    np.testing.assert_array_equal(parts.predict(tokens, verbose=0), expected)
    stock = keras.models.load_model(tmp_path / "stock.keras")
    assert type(stock) is Parts
    np.testing.assert_allclose(stock.predict(tokens, verbose=0), expected, rtol=1e-5)


def test_partly_and_then_the_rest(parts, tokens, rng, capsys):
    sparsify(parts, layers=parts.steps)
    assert len(find_masks(parts)) == 2
    assert "masked 2 of 6 kernels" in capsys.readouterr().out
    cut_half(parts, rng)
    expected, first = parts(tokens), find_masks(parts)
    sparsify(parts, ste="softplus")
    assert len(find_masks(parts)) == 6
    assert {id(m) for m in first} <= {id(m) for m in find_masks(parts)}
    np.testing.assert_array_equal(parts(tokens), expected)
    rows = {r.layer: r.masked for r in summary(parts, None).rows}
    assert all(rows.values())


def test_a_masked_model_within_another_keeps_its_class_in_the_file(rng, tmp_path):
    inputs = keras.Input((4,))
    base = keras.Model(inputs, layers.Dense(5, name="inner")(inputs), name="base")
    sparsify(base)
    outer = keras.Model(inputs, layers.Dense(3, name="head")(base(inputs)))
    x = rng.normal(size=(2, 4)).astype("float32")
    for masked in (False, True):
        if masked:
            sparsify(outer)
        cut_half(outer, rng)
        expected = outer(x)
        outer.save(tmp_path / "m.keras")
        loaded = keras.models.load_model(tmp_path / "m.keras")
        assert isinstance(loaded.get_layer("base"), SCLModel)
        assert isinstance(loaded, SCLModel) == masked
        assert len(find_masks(loaded)) == 1 + masked
        np.testing.assert_array_equal(loaded(x), expected)
    strip_masks(outer)
    assert not isinstance(outer, SCLModel) and not isinstance(base, SCLModel)
    np.testing.assert_array_equal(outer(x), expected)


@keras.saving.register_keras_serializable("any_model")
class TwoLosses(keras.Model):
    """A model with a `compile`, a `compute_loss` and a `train_step` of its own."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.dense = layers.Dense(2)
        self.steps = 0

    def compile(self, second_loss, **kwargs):
        super().compile(loss="mse", **kwargs)
        self.second_loss = second_loss

    def compute_loss(self, x=None, y=None, y_pred=None, *args, **kwargs):
        own = ops.mean(ops.abs(y_pred)) * self.second_loss
        return super().compute_loss(x, y, y_pred, *args, **kwargs) + own

    def train_step(self, data):
        self.steps += 1
        return {**super().train_step(data), "own": 7.0}

    def call(self, x):
        return self.dense(x)


def test_what_a_subclass_overrides_runs_with_masks(rng, tmp_path):
    model = TwoLosses()
    x, y = rng.normal(size=(16, 3)), rng.normal(size=(16, 2))
    model(x)
    sparsify(model)
    model.compile(0.5, optimizer="sgd", connection_cost=0.3, run_eagerly=True)
    assert float(model.connection_cost) == pytest.approx(0.3)
    history = model.fit(x, y, verbose=0).history
    assert history["own"] == [7.0] and "sparsity" in history and model.steps == 1
    expected = np.mean((model(x) - y) ** 2) + 0.5 * np.mean(np.abs(model(x)))
    found = model.evaluate(x, y, verbose=0)
    assert found == pytest.approx(expected, rel=1e-5)
    model.save(tmp_path / "m.keras")
    with pytest.warns(UserWarning, match="was not compiled.*`compile` takes other"):
        loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x), model(x))


def test_a_runtime_is_told_to_compile_and_to_targets(rng, tmp_path, capsys):
    inputs = keras.Input((8, 8, 1))
    x = layers.Flatten()(layers.Conv2D(8, 3, activation="relu")(inputs))
    model = keras.Model(inputs, layers.Dense(2)(layers.Dense(8, "relu")(x)))
    sparsify(model, runtime="compact")
    capsys.readouterr()
    model.save(tmp_path / "m.keras")
    for net in (model, keras.models.load_model(tmp_path / "m.keras")):
        net.compile("adam", "mse")
        assert net.scl_optimizer.cost == "macs"
        net.compile("adam", "mse", cost="connections")
        assert net.scl_optimizer.cost == "connections"
    strip_masks(model)
    sparsify(model, runtime="size")
    with pytest.raises(ValueError, match="small file.*cost='macs'"):
        model.compile("adam", "mse", cost="macs")


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_is_masked_in_both_directions(tied, tokens, rng):
    class Net(keras.Model):
        def __init__(self):
            super().__init__()
            self.words = layers.ReversibleEmbedding(11, 6, tie_weights=tied)

        def call(self, x):
            return self.words(self.words(x), reverse=True)

    model = Net()
    before = model(tokens)
    sparsify(model)
    np.testing.assert_array_equal(model(tokens), before)
    assert len(find_masks(model)) == 2 - tied
    cut_half(model, rng)
    tables = [np.array(v) for v in model.words.masked_kernels().values()]
    back = tables[0].T if tied else tables[1]
    expected = tables[0][tokens] @ back
    np.testing.assert_allclose(model(tokens), expected, rtol=1e-5, atol=1e-6)
    rows = summary(model, None).rows
    assert sum(row.macs for row in rows) == 4 * 66
    strip_masks(model)
    np.testing.assert_allclose(model(tokens), expected, rtol=1e-5, atol=1e-6)


def test_following_a_model_leaves_no_trace_in_it(parts):
    everything = [parts, *parts.layers, parts.wrapped.layer]
    before = [dict(vars(x)) for x in everything]
    nodes = [len(x._inbound_nodes) for x in everything]
    assert len(trace(parts).calls) > 6
    assert [len(x._inbound_nodes) for x in everything] == nodes
    for x, own in zip(everything, before, strict=True):
        assert vars(x).keys() == own.keys()
    assert not any(isinstance(x, MaskedLayer) for x in everything)
