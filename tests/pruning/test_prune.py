import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import scl_keras
from scl_keras import DisconnectedError, PruningMethod, find_masks, prune, sparsify
from scl_keras.connectivity import effective_masks
from scl_keras.pruning import (
    IterativeSNIP,
    PrunableNetwork,
    Random,
    SynFlow,
    UniformPlus,
    get_method,
)

METHODS = [
    *("magnitude", "lamp", "snip", "random"),
    IterativeSNIP(3),
    SynFlow(4),
]
RNG = np.random.default_rng(1)
X = RNG.normal(size=(40, 8, 8, 1)).astype("float32")
Y = RNG.integers(0, 4, 40)
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(3)
    inputs = keras.Input((8, 8, 1))
    x = layers.Conv2D(6, 3, name="conv")(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.Dropout(0.5)(layers.ReLU()(x))
    x = layers.Flatten()(layers.MaxPooling2D(2)(x))
    x = layers.Dense(16, activation="relu", kernel_regularizer="l2", name="hidden")(x)
    model = keras.Model(inputs, layers.Dense(4, name="last")(x))
    model.compile("adam", LOSS)
    return model


def pruned(model, method, *args, **kwargs):
    return prune(model, method, *args, data=(X, Y), verbose=0, **kwargs, copy=True)


def kept(model):
    return [keras.ops.convert_to_numpy(mask.kept()) for mask in find_masks(model)]


def state(model):
    return [np.array(v) for v in model.variables]


@pytest.mark.parametrize("effective", [False, True])
@pytest.mark.parametrize("method", METHODS, ids=str)
def test_hits_the_sparsity_and_leaves_the_model_alone(method, effective, model):
    before = state(model)
    found = pruned(model, method, 0.9, effective=effective)
    size = sum(mask.size for mask in find_masks(found))
    count = sum(int(mask.sum()) for mask in kept(found))
    assert count == round(0.1 * size)
    alive = sum(int(m.sum()) for m in effective_masks(found).values())
    assert alive == count if effective else alive <= count
    for a, b in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(a, b)
    # The copy has its weights and state, batch statistics among them.
    weights = [w for w in found.weights if not hasattr(w, "connection_mask")]
    for a, b in zip(model.weights, weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not found.compiled


@pytest.mark.parametrize("quotas", ["uniform", "erk", "igq", UniformPlus(0.5)], ids=str)
def test_quotas_are_kept_and_effective_counts_met(quotas, model):
    found = pruned(model, "random", compression=5, quotas=quotas)
    sizes = [mask.size for mask in find_masks(found)]
    counts = [mask.sum() for mask in kept(found)]
    assert sum(counts) == round(sum(sizes) / 5) and min(counts) > 0
    if quotas == "uniform":
        np.testing.assert_allclose(np.divide(counts, sizes), 0.2, atol=0.01)
    if isinstance(quotas, UniformPlus):
        assert counts[0] == sizes[0]
    found = pruned(model, "random", compression=5, quotas=quotas, effective=True)
    alive = sum(int(m.sum()) for m in effective_masks(found).values())
    assert alive == round(sum(sizes) / 5)


@pytest.mark.parametrize("compression", [20, 100, 200])
@pytest.mark.parametrize("seed", range(3))
def test_effective_counts_are_met_far_down(seed, compression, model):
    found = prune(
        model,
        Random(seed),
        compression=compression,
        effective=True,
        verbose=0,
        copy=True,
    )
    size = sum(mask.size for mask in find_masks(found))
    alive = sum(int(m.sum()) for m in effective_masks(found).values())
    assert alive == round(size / compression)


def test_effective_search_with_nothing_alive_below_its_jump():
    # The last kernel scores lowest: before its first connection there is no path,
    # and with it there are as many as the first two layers have connections.
    class LastGoesFirst(PruningMethod):
        def scores(self, network):
            first, second, last = network.shapes
            return [np.full(first, 3.0), np.full(second, 2.0), np.ones(last)]

    stack = [layers.Dense(n, use_bias=False) for n in (3, 3, 3)]
    model = keras.Sequential([keras.Input((3,)), *stack])
    for count in (3, 4, 5, 9, 13, 20):
        found = prune(
            model, LastGoesFirst(), 1 - count / 27, effective=True, verbose=0, copy=True
        )
        alive = sum(int(m.sum()) for m in effective_masks(found).values())
        assert alive == count
    with pytest.raises(ValueError, match="a density of 0.0|leaves none"):
        prune(model, "random", 1 - 0.4 / 27, effective=True, verbose=0, copy=True)
    # Every path has three connections: two can't be, three are nearest.
    found = prune(
        model, LastGoesFirst(), 1 - 2 / 27, effective=True, verbose=0, copy=True
    )
    assert sum(int(m.sum()) for m in effective_masks(found).values()) == 3


def test_magnitude_keeps_the_largest_weights(model):
    found = pruned(model, "magnitude", 0.75)
    weights = [np.abs(model.get_layer(n).kernel) for n in ("conv", "hidden", "last")]
    flat = np.concatenate([w.ravel() for w in weights])
    mask = np.concatenate([m.ravel() for m in kept(found)]) > 0
    assert flat[mask].min() > flat[~mask].max()


def test_lamp_scores_by_brute_force(model):
    network = PrunableNetwork(sparsify(model, ste=None, copy=True))
    for w, scores in zip(
        network.weights(), get_method("lamp").scores(network), strict=True
    ):
        flat = w.ravel() ** 2
        expected = [x / flat[flat >= x].sum() for x in flat]
        np.testing.assert_allclose(scores.ravel(), expected, rtol=1e-9)


def smooth_model():
    """Batch statistics, but nothing random and no kinks."""
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((5,)),
            layers.Dense(4, activation="tanh", kernel_regularizer="l2", name="a"),
            layers.BatchNormalization(),
            layers.Dense(3, name="b"),
        ]
    )
    model.compile("sgd", "mse")
    return model


def test_snip_scores_by_finite_differences():
    model = smooth_model()
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(12, 5)), rng.normal(size=(12, 3))
    weight = rng.random(12)
    batches = [(x[:8], y[:8], weight[:8]), (x[8:], y[8:], weight[8:])]
    sparse = sparsify(model, ste=None, copy=True)
    masks = [rng.random((5, 4)) < 0.7, rng.random((4, 3)) < 0.7]
    network = PrunableNetwork(sparse, batches, "mse")
    network.keep(masks)
    before = state(sparse)
    found = get_method("snip").scores(network)
    for a, b in zip(before, state(sparse), strict=True):
        np.testing.assert_array_equal(a, b)

    def loss(kernels):
        total = 0.0
        for x, y, weight in batches:
            h = np.tanh(x @ kernels[0])
            h = (h - h.mean(0)) / np.sqrt(h.var(0) + 1e-3)
            total += (((h @ kernels[1] - y) ** 2).mean(-1) * weight).sum()
        return total / 12

    kernels = [
        np.array(model.get_layer(n).kernel, "float64") * m
        for n, m in zip("ab", masks, strict=True)
    ]
    for i, scores in enumerate(found):
        for index in np.ndindex(scores.shape):
            up, down = [k.copy() for k in kernels], [k.copy() for k in kernels]
            up[i][index] *= 1.0001
            down[i][index] *= 0.9999
            expected = abs(loss(up) - loss(down)) / 2e-4
            assert scores[index] == pytest.approx(expected, abs=1e-5)


def test_iterative_methods_repeat_scores_on_what_is_left():
    model = smooth_model()
    rng = np.random.default_rng(2)
    data = rng.normal(size=(12, 5)), rng.normal(size=(12, 3))
    seen = []

    class Spy(IterativeSNIP):
        def scores(self, network):
            scores = super().scores(network)
            seen.append((scores, network.kept()))
            return scores

    found = prune(model, Spy(3), 0.75, data=data, verbose=0, copy=True)
    # 32 connections to 8 in three rounds: 32 · (1/4)^(r/3).
    assert [sum(m.sum() for m in masks) for _, masks in seen] == [32, 20, 13]
    after = [masks for _, masks in seen[1:]] + [[m > 0 for m in kept(found)]]
    for (scores, masks), left in zip(seen, after, strict=True):
        pairs = zip(scores, masks, strict=True)
        flat = np.concatenate([np.where(m, s, -1).ravel() for s, m in pairs])
        stays = np.concatenate([m.ravel() for m in left])
        assert flat[stays].min() >= flat[~stays].max()


def test_synflow_prevents_layer_collapse_where_magnitude_does_not():
    keras.utils.set_random_seed(0)
    stack = [layers.Dense(n) for n in (50, 50, 4)]
    model = keras.Sequential([keras.Input((50,)), *stack])
    model.layers[0].kernel.assign(model.layers[0].kernel / 1e6)
    with pytest.raises(
        DisconnectedError, match="Kernels without a connection: .*dense"
    ):
        prune(model, "magnitude", compression=1000, verbose=0, copy=True)
    found = prune(model, SynFlow(100), compression=1000, verbose=0, copy=True)
    table = scl_keras.summary(found, print_fn=None)
    assert table.kept == 5 and table.effective >= 4


def test_masks_restrict_what_may_be_kept(model):
    first = pruned(model, "magnitude", 0.8)
    second = pruned(first, "random", 0.9)
    for old, new in zip(kept(first), kept(second), strict=True):
        assert np.all(new <= old)
    assert sum(m.sum() for m in kept(first)) == pytest.approx(
        2 * sum(m.sum() for m in kept(second)), abs=1
    )
    with pytest.raises(ValueError, match="what is cut stays cut"):
        pruned(first, "random", 0.5)
    with pytest.raises(ValueError, match="`layers` is for stock models"):
        pruned(first, "random", 0.9, layers="conv")
    learned = sparsify(model, copy=True)
    assert not any(m.is_learned for m in find_masks(pruned(learned, "lamp", 0.9)))
    assert all(m.is_learned for m in find_masks(learned))


def test_only_chosen_layers_are_pruned(model):
    found = pruned(model, "magnitude", 0.5, layers=["conv", "hidden"])
    sizes = [mask.size for mask in find_masks(found)]
    assert len(sizes) == 2
    assert sum(m.sum() for m in kept(found)) == round(sum(sizes) / 2)


def test_training_summary_export_and_files_work(model, tmp_path):
    found = pruned(model, "magnitude", compression=10)
    before = kept(found)
    found.compile("adam", LOSS)
    found.fit(X, Y, verbose=0)
    found.save(tmp_path / "pruned.keras")
    again = keras.models.load_model(tmp_path / "pruned.keras")
    again.fit(X, Y, verbose=0)
    for a, b in zip(before, kept(again), strict=True):
        np.testing.assert_array_equal(a, b)
    stock = scl_keras.strip_masks(again, copy=True)
    assert type(stock.get_layer("conv")) is layers.Conv2D
    np.testing.assert_allclose(stock(X), again(X), rtol=1e-5, atol=1e-6)
    assert scl_keras.summary(stock, print_fn=None).compression == pytest.approx(
        10, rel=0.01
    )


def test_data_in_every_form_gives_the_same_scores():
    model = smooth_model()
    x, y = X[:32, :5, 0, 0], X[:32, 5:, 0, 0]
    dataset = tf.data.Dataset.from_tensor_slices((x, y)).batch(32)

    class Batches(keras.utils.PyDataset):
        num_batches = 1

        def __getitem__(self, index):
            return x, y

    forms = [(x, y), dataset, [(x, y)], Batches(), (tf.constant(x), tf.constant(y))]
    masks = [
        kept(prune(model, "snip", 0.5, data=data, verbose=0, copy=True))
        for data in forms
    ]
    for found in masks[1:]:
        for a, b in zip(masks[0], found, strict=True):
            np.testing.assert_array_equal(a, b)


def test_several_inputs_and_outputs_with_loss_weights():
    a, b = keras.Input((3,), name="a"), keras.Input((2,), name="b")
    x = layers.Dense(4, name="body")(layers.Concatenate()([a, b]))
    heads = {"p": layers.Dense(1, name="p")(x), "q": layers.Dense(1, name="q")(x)}
    model = keras.Model({"a": a, "b": b}, heads)
    x = {"a": np.ones((8, 3), "float32"), "b": np.ones((8, 2), "float32")}
    y = {"p": np.ones((8, 1)), "q": np.ones((8, 1))}
    losses = {"p": "mse", "q": "mse"}
    model.compile("sgd", losses, loss_weights={"p": 1.0, "q": 0.0})
    network = PrunableNetwork(
        sparsify(model, ste=None, copy=True), (x, y), losses, {"p": 1.0, "q": 0.0}
    )
    by_name = dict(
        zip([k.layer.name for k in network.kernels], network.gradients(), strict=True)
    )
    assert by_name["p"].any() and not by_name["q"].any()
    found = prune(model, "snip", 0.5, data=(x, y), verbose=0, copy=True)
    masks = {k.layer.name: k.kept() for k in PrunableNetwork(found).kernels}
    assert masks["p"].any() and not masks["q"].any()


def test_open_sizes_need_input_shapes_where_they_matter():
    inputs = keras.Input((None, None, 2))
    x = layers.Conv2D(4, 3, activation="relu")(inputs)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(layers.Conv2D(4, 3)(x)))
    prune(model, "magnitude", 0.5, verbose=0, copy=True)
    with pytest.raises(ValueError, match="input_shapes"):
        prune(model, "magnitude", 0.5, effective=True, verbose=0, copy=True)
    shapes = (9, 9, 2)
    found = prune(
        model,
        SynFlow(3),
        0.5,
        effective=True,
        input_shapes=shapes,
        verbose=0,
        copy=True,
    )
    alive = sum(int(m.sum()) for m in effective_masks(found, shapes).values())
    assert alive == sum(m.sum() for m in kept(found)) == 108


def test_progress_bars_can_be_silenced(model, capfd):
    pruned(model, SynFlow(2), 0.5, effective=True)
    assert capfd.readouterr() == ("", "")
    prune(model, SynFlow(2), 0.5, effective=True, copy=True)
    assert "SynFlow" in capfd.readouterr().err


WRONG = [
    ({"sparsity": 1.0}, "`sparsity` must be a number in .0, 1.*Received"),
    ({"sparsity": -0.1}, "`sparsity` must be a number in .0, 1.*Received"),
    ({"compression": 0.5}, "`compression` must be a number of at least 1.*Received"),
    ({}, "either `sparsity` or `compression`.*Received"),
    ({"sparsity": 0.5, "compression": 2}, "either `sparsity` or `compression`"),
    ({"compression": 1e7}, "leaves none of"),
    ({"sparsity": 0.5, "quotas": "fair"}, "`quotas` must be one of.*Received"),
    ({"sparsity": 0.99, "quotas": "uniform_plus"}, "keeps the first convolution dense"),
    ({"sparsity": 0.5, "method": "guess"}, "`method` must be one of.*Received"),
    ({"sparsity": 0.5, "layers": "none"}, "`layers` has 'none'"),
    ({"sparsity": 0.5, "layers": keras.layers.ReLU}, "is no layer of"),
    ({"sparsity": 0.5, "method": "snip", "data": None}, "`data` is missing"),
]
SNIP = {"sparsity": 0.5, "method": "snip"}
WRONG_DATA = [
    ((X[:, :7], Y), "doesn't fit model.*Received inputs of the shapes .*7, 8, 1"),
    ((X.reshape(40, -1), Y), "doesn't fit model"),
    (([X, X], Y), "doesn't fit model"),
    ((X, Y[:7]), "as many targets as inputs.*Received"),
    ((X, np.ones((40, 4, 9))), "do the targets fit.*Received: targets of shapes"),
    ((X,), "inputs and targets"),
    ([X], "inputs and targets"),
    ([], "is empty"),
    ((X, Y + 4), "no finite gradient|do the targets fit"),
    ((X * np.nan, Y), "no finite gradient"),
    (3, "`data` must be.*Received: data=3"),
    ("x, y", "inputs and targets|must be"),
    ((X, Y, 3.0), "must be arrays.*Received a tuple with 3.0"),
    ((X.tolist(), Y.tolist()), "must be arrays.*Received a tuple with"),
    ((X, Y, Y, Y), "x, y.*Received 4 in the place"),
    ([(X, Y, Y, Y)], "x, y.*Received 4 in the place"),
    ((X.astype(str), Y), "must hold numbers.*StringLookup.*Received: <U"),
    ((X, Y.astype(str)), "must hold numbers.*Received: <U"),
    ((X.astype(object), Y), "must hold numbers.*Received: object"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), WRONG + [({**SNIP, "data": d}, m) for d, m in WRONG_DATA]
)
def test_bad_input(arguments, message, model):
    before = state(model)
    with pytest.raises(ValueError, match=message):
        prune(model, **{"data": (X, Y), "verbose": 0, **arguments}, copy=True)
    for a, b in zip(before, state(model), strict=True):
        np.testing.assert_array_equal(a, b)


def forever():
    while True:
        yield X, Y


def of_generator():
    return tf.data.Dataset.from_generator(
        forever,
        output_signature=tuple(tf.TensorSpec(a.shape, a.dtype) for a in (X, Y)),
    )


class Endless(keras.utils.PyDataset):
    """A dataset that doesn't tell its length, which is endless to Keras."""

    num_batches = None

    def __getitem__(self, index):
        return X, Y


ENDLESS = [
    (forever, "doesn't tell its length"),
    (lambda: tf.data.Dataset.from_tensors((X, Y)).repeat(), "repeats forever"),
    (lambda: of_generator(), "doesn't tell its length"),
    (lambda: Endless(), "has no end"),
    (lambda: iter([(X, Y)] * 9), "doesn't tell its length"),
]


@pytest.fixture(scope="module")
def steady():
    """A model that computes the same each time: without dropout."""
    keras.utils.set_random_seed(3)
    stack = [layers.Conv2D(6, 3), layers.Flatten(), layers.Dense(4)]
    model = keras.Sequential([keras.Input((8, 8, 1)), *stack])
    model.compile("adam", LOSS)
    return model


@pytest.mark.parametrize(("make", "reason"), ENDLESS)
def test_data_without_an_end_need_steps(make, reason, steady):
    with pytest.raises(ValueError, match=f"{reason}: give `steps`.*Received"):
        prune(steady, "magnitude", 0.5, data=make(), verbose=0, copy=True)
    for method in ("snip", IterativeSNIP(3)):
        found = prune(steady, method, 0.5, data=make(), steps=2, verbose=0, copy=True)
        expected = prune(steady, method, 0.5, data=[(X, Y)] * 2, verbose=0, copy=True)
        for a, b in zip(kept(found), kept(expected), strict=True):
            np.testing.assert_array_equal(a, b)


def test_steps_take_the_first_batches(steady):
    batches = [(X, Y), (-X, Y[::-1]), (X * np.nan, Y)]
    found = prune(steady, "snip", 0.5, data=batches, steps=2, verbose=0, copy=True)
    expected = prune(steady, "snip", 0.5, data=batches[:2], verbose=0, copy=True)
    for a, b in zip(kept(found), kept(expected), strict=True):
        np.testing.assert_array_equal(a, b)


def test_models_without_graph_loss_or_path(model):
    unbuilt = keras.Sequential([layers.Dense(3)])
    with pytest.raises(ValueError, match="`prune` needs a built Keras model"):
        prune(unbuilt, "magnitude", 0.5, copy=True)

    class Subclassed(keras.Model):
        pass

    with pytest.raises(ValueError, match="`prune` needs a built Keras model"):
        prune(Subclassed(), "magnitude", 0.5)
    plain = keras.Sequential(
        [keras.Input((8, 8, 1)), layers.Flatten(), layers.Dense(4)]
    )
    with pytest.raises(ValueError, match="`loss` is missing"):
        prune(plain, "snip", 0.5, data=(X, Y), verbose=0, copy=True)
    prune(plain, "snip", 0.5, data=(X, Y), loss=LOSS, verbose=0, copy=True)
    dead = sparsify(model, copy=True)
    find_masks(dead)[1].assign(np.zeros(find_masks(dead)[1].variable.shape))
    for effective in (False, True):
        with pytest.raises(DisconnectedError):
            prune(dead, "magnitude", 0.99, effective=effective, verbose=0, copy=True)
    broken = sparsify(model, ste=None, copy=True)
    broken.get_layer("last").kernel.assign(np.full((16, 4), np.nan))
    with pytest.raises(ValueError, match="last/kernel' has weights that aren't finite"):
        prune(broken, "magnitude", 0.5, verbose=0, copy=True)


def test_a_method_of_ones_own(model):
    class Smallest(PruningMethod):
        def scores(self, network):
            return [-np.abs(w) for w in network.weights()]

    found = pruned(model, Smallest(), 0.75)
    w = np.abs(model.get_layer("hidden").kernel)
    mask = kept(found)[1] > 0
    assert w[mask].max() < w[~mask].min()

    class Wrong(PruningMethod):
        def scores(self, network):
            return [np.zeros(3)]

    with pytest.raises(ValueError, match="must give scores of the kernels' shapes"):
        pruned(model, Wrong(), 0.75)
    for rounds in (0, 1.5):
        with pytest.raises(ValueError, match="`rounds` must be a whole number >= 1"):
            SynFlow(rounds)


@pytest.mark.parametrize("method", ["snip", IterativeSNIP(2)])
@pytest.mark.parametrize("kind", [layers.GRU, layers.LSTM])
def test_a_state_stays_what_it_was(kind, method, rng):
    layer = kind(4, stateful=True)
    model = keras.Sequential(
        [keras.Input((3, 2), batch_size=2), layer, layers.Dense(1)]
    )
    x = rng.normal(size=(2, 3, 2)).astype("float32")
    model.predict(x, verbose=0)
    before = [keras.ops.convert_to_numpy(state) + 0 for state in layer.states]
    data = [(x, np.zeros((2, 1), "float32"))]
    prune(model, method, 0.3, data=data, loss="mse", verbose=0)
    for state, value in zip(layer.states, before, strict=True):
        np.testing.assert_array_equal(state, value)
