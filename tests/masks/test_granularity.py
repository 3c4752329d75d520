import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from scl_keras import (
    Block,
    Channel,
    Connection,
    GradientNormalization,
    Granularity,
    Mask,
    SCLOptimizer,
    SwitcherModel,
    TargetSparsity,
    find_masks,
    fix_masks,
    prune,
    sparsify,
    summary,
)
from scl_keras.masks import granularity as granularities
from scl_keras.masks.density import in_order, nearest

SHAPES = st.lists(st.integers(1, 7), min_size=2, max_size=4).map(tuple)


@st.composite
def layouts(draw):
    shape = draw(SHAPES)
    axis = draw(st.integers(-len(shape), len(shape) - 1))
    chosen = [
        Connection(),
        Channel(),
        Channel((axis,)),
        Block(draw(st.integers(1, 9)), axis),
    ]
    return shape, draw(st.sampled_from(chosen))


def built(shape, granularity, **kwargs):
    mask = Mask(granularity=granularity, **kwargs)
    mask.build(shape)
    return mask


@settings(max_examples=60)
@given(layout=layouts(), seed=st.integers(0, 99))
def test_every_connection_has_one_switch_and_sizes_count_them(layout, seed):
    shape, granularity = layout
    mask = built(shape, granularity)
    s = mask.variable
    s.assign(np.random.default_rng(seed).uniform(-1, 1, s.shape))
    number = np.arange(s.numpy().size).reshape(s.shape).astype("int32")
    owner = ops.convert_to_numpy(granularity.expand(ops.array(number), shape))
    assert owner.shape == shape
    counted = np.bincount(owner.ravel(), minlength=number.size)
    sizes = np.broadcast_to(mask.sizes, s.shape)
    np.testing.assert_array_equal(counted, sizes.ravel())
    kept = s.numpy().ravel()[owner] > 0
    np.testing.assert_array_equal(mask.kept(), kept)
    assert int(mask.count()) == kept.sum()
    assert mask.size == kept.size
    mask.assign(kept)
    np.testing.assert_array_equal(mask.kept("bool"), kept)


@pytest.mark.parametrize(
    ("granularity", "shape", "expected"),
    [
        (Block(4), (10, 3), (3, 3)),  # the last block has two connections
        (Block(4, axis=-1), (1, 1, 5, 8), (1, 1, 5, 2)),
        (Block(9, axis=0), (3, 3, 2, 2), (1, 3, 2, 2)),
        (Channel(), (3, 3, 4, 5), (1, 1, 1, 5)),
        (Channel((-2,)), (3, 3, 4, 5), (1, 1, 4, 1)),
        (Connection(), (3, 4), (3, 4)),
    ],
)
def test_shapes_of_mask_variables(granularity, shape, expected):
    assert built(shape, granularity).variable.shape == expected


def test_a_short_last_block_counts_its_own_connections():
    mask = built((10, 3), Block(4))
    mask.assign(np.repeat([0, 0, 1], [4, 4, 2])[:, None] * np.ones((10, 3)))
    assert int(mask.count()) == 6


@pytest.mark.parametrize("granularity", [Block(3), "channel"])
def test_parts_of_a_switch_are_not_assigned(granularity):
    mask = built((6, 2), granularity)
    kept = np.ones((6, 2))
    kept[4, 1] = 0
    with pytest.raises(ValueError, match="keeps or cuts all.*Received: `kept` with"):
        mask.assign(kept)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Block(0), "`size` must be an integer of at least 1. Received: size=0"),
        (lambda: Block(2.5), "must be an integer of at least 1. Received: size=2.5"),
        (lambda: Block(2, axis="x"), "Received: axis='x'"),
        (lambda: Channel(3), "must be a tuple of integers.*Received: axes=3"),
        (lambda: Channel(()), r"Received: axes=\(\)"),
        (lambda: Mask(granularity="nope"), "one of.*Received: granularity='nope'"),
        (lambda: built((2, 3), Block(2, axis=2)), r"shape \(2, 3\) has no axis 2"),
    ],
)
def test_wrong_granularities_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("x", [Connection(), Block(4, -1), Channel(), Channel((-2,))])
def test_granularities_survive_serialization(x):
    assert granularities.get(granularities.serialize(x)) == x
    mask = Mask(granularity=x)
    assert Mask.from_config(mask.get_config()).granularity == x
    assert isinstance(x, Granularity) and hash(x) == hash(type(x)(**x.get_config()))


def small_model():
    inputs = keras.Input((9,))
    x = layers.Dense(8, "relu", name="a")(inputs)
    x = layers.Dense(6, "relu", name="b")(x)
    return keras.Model(inputs, layers.Dense(3, name="c")(x))


MIXED = {"a": "channel", "b": Block(3), layers.Dense: "connection"}


def test_layers_have_granularities_of_their_own():
    model = sparsify(small_model(), granularity=MIXED)
    found = [mask.granularity for mask in find_masks(model)]
    assert found == [Channel(), Block(3), Connection()]
    assert [m.granularity for m in find_masks(fix_masks(model, copy=True))] == found
    rows = summary(model, None).rows
    assert [row.granularity for row in rows] == [str(x) for x in found]
    assert "MaskedDense, channel)" in str(summary(model, None))
    by_function = sparsify(
        small_model(), granularity=lambda layer: MIXED.get(layer.name)
    )
    assert [m.granularity for m in find_masks(by_function)] == found[:2]
    assert type(by_function.get_layer("c")) is layers.Dense
    assert find_masks(sparsify(small_model(), granularity={"a": None}))[0].size == 48
    for wrong in ("nope", {"d": "channel"}, {"a": "nope"}):
        with pytest.raises(ValueError, match="Received: granularity='nope'|has 'd'"):
            sparsify(small_model(), granularity=wrong)


def test_without_normalization_updates_are_the_gradient_of_the_objective(rng):
    """By tape: of the task's loss plus λ times the connections kept."""
    model = sparsify(small_model(), granularity=MIXED, mask_initializer=0.5)
    x, y = rng.normal(size=(5, 9)), rng.normal(size=(5, 3))
    masks = find_masks(model)
    variables = model.trainable_variables
    optimizer = SCLOptimizer(
        "sgd", keras.optimizers.SGD(1.0), connection_cost=0.02, normalization=None
    )
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(x) - y) ** 2)
    gradients = tape.gradient(loss, [v.value for v in variables])
    with tf.GradientTape() as tape:
        task = tf.reduce_mean((model(x) - y) ** 2)
        objective = task + 0.02 * sum(tf.reduce_sum(mask.kept()) for mask in masks)
    expected = tape.gradient(objective, [mask.variable.value for mask in masks])
    before = [mask.variable.numpy() for mask in masks]
    optimizer.apply(gradients, variables)
    for mask, old, update in zip(masks, before, expected, strict=True):
        np.testing.assert_allclose(
            mask.variable, np.clip(old - update, -1, 1), rtol=1e-5, atol=1e-6
        )
    kept = sum(int(mask.kept("int32").numpy().sum()) for mask in masks)
    assert float(optimizer.connection_loss()) == pytest.approx(0.02 * kept)


@pytest.mark.parametrize("per", ["network", "layer", "feature"])
def test_normalized_updates_are_per_connection(per, rng):
    """A block whose connections all have one gradient g is treated as one of them."""
    coarse = [built((6, 4), Block(3)), built((8, 2), Block(4))]
    fine = [built((2, 4), "connection"), built((2, 2), "connection")]
    values = [rng.normal(size=mask.variable.shape).astype("float32") for mask in fine]
    normalization, updates = GradientNormalization(per, memory=0), []
    for masks, factors in ((coarse, (3, 4)), (fine, (1, 1))):
        # A larger layer weighs more in the mean of the network: as often as it has
        # connections.
        gradients = [ops.array(v * n) for v, n in zip(values, factors, strict=True)]
        squares = normalization.mean_squares(gradients, masks)
        if per == "network" and masks is fine:
            squares = {
                "network": sum(
                    n * np.sum(v**2) for v, n in zip(values, (3, 4), strict=True)
                )
                / (24 + 16)
            }
        states = {
            key: keras.Variable(np.zeros(shape, "float32"))
            for key, shape in normalization.state_shapes(masks).items()
        }
        scales = normalization.scales(squares, masks, states, 0)
        updates.append([g * scale for g, scale in zip(gradients, scales, strict=True)])
        assert all(normalization.priced_connections(mask) == 1 for mask in masks)
    for a, b in zip(*updates, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.parametrize("per", ["network", "layer", "feature"])
def test_the_mean_weighs_short_blocks_by_their_connections(per, rng):
    """By loops, over the connections that each mask variable stands for."""
    masks = [built((7, 3), Block(3)), built((3, 5), "channel")]
    gradients = [rng.normal(size=mask.variable.shape) for mask in masks]
    normalization = GradientNormalization(per)
    found = normalization.mean_squares([ops.array(g) for g in gradients], masks)
    every = []
    for mask, g in zip(masks, gradients, strict=True):
        sizes = np.broadcast_to(mask.sizes, g.shape)
        spread = mask.granularity.expand(ops.array(g / sizes), mask.kernel_shape)
        every.append(ops.convert_to_numpy(spread) ** 2)
    if per == "network":
        mean = np.concatenate([x.ravel() for x in every]).mean()
        np.testing.assert_allclose(found["network"], mean, rtol=1e-5)
        return
    # Channels that are features are normalized with their layer.
    axes = 0 if per == "feature" else (0, 1)
    expected = [every[0].mean(axes, keepdims=True), every[1].mean(keepdims=True)]
    for mask, mean in zip(masks, expected, strict=True):
        np.testing.assert_allclose(found[id(mask)], mean, rtol=1e-5)


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=1, max_size=20), share=st.floats(0, 1)
)
def test_the_nearest_count_is_found(sizes, share):
    values = np.random.default_rng(0).permutation(len(sizes))
    order, kept = in_order(values, np.array(sizes))
    count = share * sum(sizes)
    number = nearest(kept, count)
    sums = [
        np.array(sizes)[np.argsort(-values)[:n]].sum() for n in range(1, len(sizes) + 1)
    ]
    assert list(values[order]) == sorted(values, reverse=True)
    assert abs(sums[number - 1] - count) == min(abs(x - count) for x in sums)


@pytest.mark.parametrize("granularity", ["channel", Block(4), MIXED], ids=str)
@pytest.mark.parametrize("sparsity", [0.5, 0.7])
def test_a_target_is_reached_within_a_switch(granularity, sparsity, rng):
    model = sparsify(small_model(), granularity=granularity)
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    x = rng.normal(size=(64, 9))
    model.fit(x, x[:, :3], 8, 4, verbose=0, callbacks=[TargetSparsity(sparsity)])
    masks = find_masks(model)
    kept = sum(int(mask.count()) for mask in masks)
    size = sum(mask.size for mask in masks)
    largest = max(int(np.max(mask.sizes)) for mask in masks)
    assert abs(kept - (1 - sparsity) * size) <= largest / 2 + 1
    assert min(int(mask.count()) for mask in masks) >= 1
    assert all(mask.frozen.numpy() for mask in find_masks(model))


def test_a_target_below_one_switch_a_layer_is_refused(rng):
    model = sparsify(small_model(), granularity="channel")
    model.compile("adam", "mse")
    x = rng.normal(size=(8, 9))
    with pytest.raises(ValueError, match="together 23"):
        model.fit(x, x[:, :3], callbacks=[TargetSparsity(0.9)], epochs=2, verbose=0)


def test_what_switches_connections_one_by_one_says_so():
    blocks = sparsify(small_model(), granularity=Block(2), ste=None)
    with pytest.raises(ValueError, match="one by one.*Received: 'a/kernel' of gran"):
        prune(blocks, "magnitude", sparsity=0.5, copy=True)
    learned = sparsify(small_model(), granularity=Block(2))
    switcher = SwitcherModel(learned.inputs, learned.outputs)
    switcher.compile("adam", "mse")
    with pytest.raises(ValueError, match="switcher network switches conn.*of gran"):
        switcher.train_on_batch(np.ones((2, 9)), np.ones((2, 3)))
