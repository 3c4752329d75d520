"""At most N of every M: groups, learned masks, their gradients and their starts."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from scl_keras import (
    NM,
    Block,
    MaskedDense,
    TargetSparsity,
    compact,
    effective_masks,
    find_masks,
    fix_masks,
    sparsify,
    stripped,
    thaw_masks,
)
from scl_keras.masks import LeakyReLU, Mask, Softplus, granularity
from scl_keras.masks import start_from_magnitudes as start
from scl_keras.report import check_groups


@st.composite
def layouts(draw):
    shape = draw(st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple))
    rank = len(shape)
    m = draw(st.integers(2, 6))
    axis = draw(st.none() | st.integers(-rank, rank - 1))
    features = draw(st.sampled_from([(-1,), (-2,), (rank - 1,)]))
    return shape, features, NM(draw(st.integers(1, m - 1)), m, axis)


def groups_of(shape, features, nm):
    """Lists of indices into a kernel, by loops: the definition."""
    axis = nm.axis
    if axis is None:
        axis = max(set(range(len(shape))) - {f % len(shape) for f in features})
    axis %= len(shape)
    rest = [range(n) for i, n in enumerate(shape) if i != axis]
    for place in itertools.product(*rest):
        for begin in range(0, shape[axis], nm.m):
            inside = range(begin, min(begin + nm.m, shape[axis]))
            yield [(*place[:axis], i, *place[axis:]) for i in inside]


def built(shape, nm, features=(-1,), **arguments):
    mask = Mask(granularity=nm, feature_axes=features, **arguments)
    mask.build(shape)
    return mask


@settings(max_examples=60)
@given(layout=layouts(), seed=st.integers(0, 99))
def test_each_group_keeps_its_largest_positive_mask_variables(layout, seed):
    shape, features, nm = layout
    mask = built(shape, nm, features)
    # Few values, so that many are equal, and some zero.
    s = np.random.default_rng(seed).integers(-2, 4, shape) / 8
    mask.variable.assign(s)
    expected, admitted, capacity, fullest = np.zeros(shape, bool), 0 * s, 0, 0
    groups = list(groups_of(shape, features, nm))
    for group in groups:
        ranked = sorted(group, key=lambda i: -s[i])  # of equal ones the first
        capacity += min(nm.n, len(group))
        for index in ranked[: nm.n]:
            admitted[index], expected[index] = 1, s[index] > 0
        fullest = max(fullest, sum(bool(expected[i]) for i in group))
    np.testing.assert_array_equal(mask.kept("bool"), expected)
    np.testing.assert_array_equal(mask.admitted(s), admitted)
    np.testing.assert_array_equal(nm.admitted(ops.array(s), shape, features), admitted)
    np.testing.assert_array_equal(np.array(mask.deciding()) > 0, expected)
    assert int(mask.count()) == expected.sum()
    assert mask.capacity == capacity <= mask.size
    assert nm.most_kept(expected, features) == fullest <= nm.n
    assert nm.number_of_groups(shape, features) == len(groups)
    mask.assign(expected)
    np.testing.assert_array_equal(mask.kept("bool"), expected)


@settings(max_examples=30)
@given(seed=st.integers(0, 999), n=st.integers(1, 3))
def test_deciding_values_are_the_nearest_with_few_enough_positive_ones(seed, n):
    """Against every choice of those that may stay positive in a group of four."""
    s = np.random.default_rng(seed).normal(size=(4, 1)).astype("float32") / 4
    mask = built((4, 1), NM(n, 4))
    mask.variable.assign(s)
    choices = itertools.combinations(range(4), n)
    stays = [np.isin(np.arange(4), c)[:, None] for c in choices]
    distances = [np.sum((np.where(x, s, np.minimum(s, 0)) - s) ** 2) for x in stays]
    found = np.sum((np.array(mask.deciding()) - s) ** 2)
    np.testing.assert_allclose(found, min(distances), rtol=1e-5, atol=1e-9)


def test_groups_lie_along_the_inputs_of_each_kind_of_kernel():
    nm = NM(2, 4)
    for shape, features, axis in [
        ((8, 5), (-1,), 0),  # Dense, recurrent kernels
        ((3, 3, 8, 5), (-1,), 2),  # Conv2D
        ((3, 5, 8), (-2,), 2),  # Conv1DTranspose
        ((16, 2, 4), (-2, -1), 0),  # queries of attention
        ((2, 4, 16), (-1,), 1),  # its output
    ]:
        kept = np.zeros(shape)
        kept[tuple(slice(4) if i == axis else 0 for i in range(len(shape)))] = 1
        assert nm.most_kept(kept, features) == 4
        assert nm.number_of_groups(shape, features) * 4 == kept.size


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: NM(4, 4), "1 <= n < m. Received: n=4, m=4"),
        (lambda: NM(0, 4), "Received: n=0, m=4"),
        (lambda: NM(2.5, 4), "`n` must be an integer. Received: n=2.5"),
        (lambda: NM(2, 4, "x"), "Received: axis='x'"),
        (lambda: built((3, 4), NM(2, 4, 2)), r"shape \(3, 4\) has no axis 2"),
        (lambda: built((3, 4), NM(2, 4), (0, 1)), "has no inputs for groups"),
        (
            lambda: built((8, 2), NM(2, 4)).assign(np.ones((8, 2))),
            "'2:4' can't keep so many.*Received: `kept` with more",
        ),
    ],
)
def test_what_is_wrong_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_serialization_and_names():
    nm = NM(1, 4, -1)
    assert granularity.get(granularity.serialize(nm)) == nm
    assert Mask.from_config(Mask(granularity=nm).get_config()).granularity == nm
    assert nm != NM(1, 4) and hash(nm) == hash(NM(np.int64(1), 4, -1))
    assert str(nm) == "1:4 along axis -1"
    assert str(NM(2, 4)) == "2:4"


@pytest.mark.parametrize("ste", ["identity", LeakyReLU(0.2), Softplus()])
@pytest.mark.parametrize("mask_dtype", ["float32", "bfloat16"])
def test_the_gradient_passes_straight_to_all_of_a_group(ste, mask_dtype, rng):
    """dL/ds = dL/dw · v · p, those that lose having the slope at zero."""
    layer = MaskedDense(3, ste=ste, granularity=NM(2, 4), mask_dtype=mask_dtype)
    layer.build((None, 10))
    s = rng.permutation(30).reshape(10, 3) / 32 - 0.2
    mask = layer.kernel_mask
    mask.variable.assign(s)
    x = rng.normal(size=(5, 10)).astype("float32")
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(layer(x)))
    gradients = tape.gradient(loss, [v.value for v in layer.trainable_variables])
    names = [v.name for v in layer.trainable_variables]
    by_name = dict(zip(names, gradients, strict=True))
    kept = np.zeros((10, 3))
    for group in groups_of((10, 3), (-1,), NM(2, 4)):
        for index in sorted(group, key=lambda i: -s[i])[:2]:
            kept[index] = s[index] > 0
    loses = (kept == 0) & (s > 0)
    assert loses.sum() > 3 and kept.sum() > 3 and (s < 0).sum() > 3
    v = layer.kernel.numpy()
    w = tf.constant(v * kept, "float32")
    with tf.GradientTape() as tape:
        tape.watch(w)
        plain = tf.reduce_sum(tf.sin(x @ w + layer.bias.value))
    dw = tape.gradient(plain, w).numpy()
    decides = ops.array(np.where(loses, 0, s), "float32")
    slope = np.broadcast_to(mask.ste.derivative(decides), s.shape)
    tolerance = 1e-5 if mask_dtype == "float32" else 2e-2
    np.testing.assert_allclose(plain, loss, rtol=1e-5)
    np.testing.assert_allclose(by_name["kernel"], dw * kept, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        tf.cast(by_name["mask"], "float32"), dw * v * slope, rtol=tolerance, atol=1e-3
    )


def test_learned_masks_start_with_the_largest_weights_of_each_group(rng):
    model = keras.Sequential([keras.Input((9,)), layers.Dense(6), layers.Dense(4)])
    weights = [np.array(layer.kernel) for layer in model.layers]
    sparsify(model, granularity=NM(2, 4))
    for mask, v in zip(find_masks(model), weights, strict=True):
        for group in groups_of(v.shape, (-1,), NM(2, 4)):
            largest = sorted(group, key=lambda i: -abs(v[i]))[:2]
            assert {i for i in group if np.array(mask.kept())[i]} == set(largest)
        expected = 0.03 * np.abs(v) / np.sqrt(np.mean(v**2))
        np.testing.assert_allclose(mask.values(), np.clip(expected, 3e-4, 1), rtol=1e-5)


def test_other_initializers_and_fixed_masks_start_as_they_say():
    def masks(**arguments):
        model = keras.Sequential([keras.Input((8,)), layers.Dense(6)])
        return find_masks(sparsify(model, granularity=NM(2, 4), **arguments))

    (fixed,) = masks(ste=None)
    assert int(fixed.count()) == 48
    random = keras.initializers.RandomUniform(0.1, 0.2, seed=1)
    (own,) = masks(mask_initializer=random)
    assert own.values().min() >= 0.1 and own.values().max() <= 0.2
    assert int(own.count()) == 24
    (cut,) = masks(mask_initializer=-0.5)
    assert int(cut.count()) == 0 and set(np.unique(cut.values())) == {-0.5}


def test_starting_again_neither_cuts_nor_restores(rng):
    layer = MaskedDense(16, granularity=NM(2, 4))
    layer.build((None, 22))
    mask = layer.kernel_mask
    mask.variable.assign(rng.uniform(-0.3, 0.9, (22, 16)))
    kept, s = np.array(mask.kept("bool")), mask.values()
    start([mask])
    np.testing.assert_array_equal(mask.kept("bool"), kept)
    np.testing.assert_array_equal(mask.values() > 0, s > 0)
    v = np.abs(layer.kernel.numpy())[kept]
    order = np.argsort(v)  # of those kept, larger weights start higher
    assert np.all(np.diff(mask.values()[kept][order]) >= 0)


def data(rng, features=12):
    x = rng.normal(size=(64, features)).astype("float32")
    return x, x[:, :3] + x[:, 3:6]


def network():
    stack = [keras.Input((12,)), layers.Dense(10, "relu"), layers.Dense(3)]
    return keras.Sequential(stack)


def test_without_a_target_connections_of_a_group_compete(rng):
    """Loses with the largest weight, but is all that the target depends on."""
    x = rng.normal(size=(256, 4)).astype("float32")
    model = sparsify(
        keras.Sequential([keras.Input((4,)), layers.Dense(1, use_bias=False)]),
        granularity=NM(1, 4),
    )
    (mask,) = find_masks(model)
    model.layers[0].kernel.assign([[0.9], [0.3], [0.1], [0.8]])
    mask.variable.assign([[0.02], [0.01], [0.0], [0.01]])
    frozen = keras.optimizers.SGD(0.0)
    model.compile(frozen, "mse", connection_cost=0.0)
    assert np.array(mask.kept()).ravel().tolist() == [1, 0, 0, 0]
    model.fit(x, x[:, 3:], 16, 4, verbose=0)
    assert np.array(mask.kept()).ravel().tolist() == [0, 0, 0, 1]


@pytest.mark.slow
@pytest.mark.parametrize("sparsity", [0.5, 0.75])
def test_a_target_is_reached_to_the_connection_and_groups_hold(sparsity, tmp_path, rng):
    x, y = data(rng)
    model = sparsify(network(), granularity=NM(2, 4))
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(check_groups(model).holds)
    )
    target = TargetSparsity(sparsity)
    model.fit(x, y, 8, 5, verbose=0, callbacks=[target, look])
    assert all(seen) and len(seen) == 40
    check = check_groups(model)
    assert [row.groups for row in check.rows] == [30, 9]
    kept = [int(mask.count()) for mask in find_masks(model)]
    assert sum(kept) == round((1 - sparsity) * 150)
    model.save(tmp_path / "masked.keras")
    loaded = keras.models.load_model(tmp_path / "masked.keras")
    np.testing.assert_array_equal(loaded(x), model(x))
    for a, b in zip(find_masks(loaded), find_masks(model), strict=True):
        assert a.granularity == b.granularity == NM(2, 4)
        np.testing.assert_array_equal(a.kept(), b.kept())
    thaw_masks(loaded)
    loaded.fit(x, y, 8, 2, verbose=0)
    assert check_groups(loaded).holds


def test_groups_hold_in_all_that_is_made_of_a_model(rng):
    """Also where mask variables that lose are above zero, as in the midst of it."""
    model = sparsify(network(), granularity=NM(2, 4))
    for mask in find_masks(model):
        mask.variable.assign(rng.uniform(-0.2, 0.8, mask.kernel_shape))
    x, _ = data(rng)
    before, kept = (
        np.array(model(x)),
        [np.array(m.kept("bool")) for m in find_masks(model)],
    )
    fixed = fix_masks(model, copy=True)
    for mask, old in zip(find_masks(fixed), kept, strict=True):
        np.testing.assert_array_equal(mask.kept("bool"), old)
    assert check_groups(fixed).holds
    np.testing.assert_array_equal(fixed(x), before)
    np.testing.assert_allclose(compact(model)(x), before, rtol=1e-5, atol=1e-6)
    with stripped(model) as stock:
        assert check_groups(stock, NM(2, 4)).holds
        np.testing.assert_allclose(stock(x), before, rtol=1e-6, atol=1e-6)
    for mask, old in zip(find_masks(model), kept, strict=True):
        np.testing.assert_array_equal(mask.kept("bool"), old)
    effective = effective_masks(model).values()
    assert all(not (e & ~k).any() for e, k in zip(effective, kept, strict=True))


def test_targets_that_groups_cannot_hold_are_refused(rng):
    x, y = data(rng)
    model = sparsify(network(), granularity={layers.Dense: NM(1, 4)})
    model.compile("adam", "mse")
    with pytest.raises(ValueError, match="no more than 39 can.*'1:4'"):
        model.fit(x, y, verbose=0, epochs=2, callbacks=[TargetSparsity(0.5)])


def test_the_masks_of_one_model_may_be_of_several_kinds(rng):
    x, y = data(rng)
    kinds = {"first": NM(2, 4), "second": Block(2)}
    stack = [layers.Dense(10, "relu", name="first"), layers.Dense(6, name="second")]
    model = keras.Sequential([keras.Input((12,)), *stack, layers.Dense(3)])
    sparsify(model, granularity=kinds)
    model.compile(keras.optimizers.Adam(1e-2), "mse")
    model.fit(x, y, 8, 4, verbose=0, callbacks=[TargetSparsity(0.7)])
    kept = sum(int(mask.count()) for mask in find_masks(model))
    assert abs(kept - 0.3 * 198) <= 2
    check = check_groups(model)
    assert check.holds and [r.layer.split("/")[-2] for r in check.rows] == ["first"]
