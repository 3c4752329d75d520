"""What compaction leaves of convolutions in groups."""

import keras
import numpy as np
import pytest
from cutting import assert_same, cut
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from scl_keras import ConnectionGraph, check_target, compact, compaction_report


def in_groups(rng, size=3, padding="valid", use_bias=True):
    """Eight channels and then twelve, in four groups."""
    inputs = keras.Input((5, 5, 3))
    x = layers.Conv2D(8, 1, name="a", use_bias=use_bias)(inputs)
    x = layers.Conv2D(12, size, groups=4, name="g", use_bias=use_bias, padding=padding)(
        layers.ReLU()(x)
    )
    x = layers.BatchNormalization(name="bn", center=use_bias)(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="b")(x))
    for w in model.trainable_variables:
        w.assign(rng.normal(size=w.shape))
    return [model, *(model.get_layer(name) for name in "agb")]


def shapes(model):
    return [tuple(model.get_layer(name).kernel.shape) for name in "agb"]


def test_groups_go_whole_and_else_as_many_of_each(rng):
    model, a, _, b = in_groups(rng)
    cut(b, slice(None), slice(None), slice(3, 6))  # all that the second group makes
    small = compact(model)
    assert shapes(small) == [(1, 1, 3, 6), (3, 3, 2, 9), (1, 1, 9, 2)]
    assert small.get_layer("g").groups == 3
    assert small.get_layer("bn").gamma.shape == (9,)
    assert_same(model, small, rng)
    cut(b, slice(None), slice(None), [0, 7])  # one of two groups: the third has none
    assert shapes(compact(model)) == shapes(small)
    cut(b, slice(None), slice(None), 11)
    small = compact(model)
    assert shapes(small) == [(1, 1, 3, 6), (3, 3, 2, 6), (1, 1, 6, 2)]
    assert_same(model, small, rng)
    dead = [0, 5, 6]  # one that each of the three groups reads
    cut(a, ..., dead)
    a.bias.assign([-1 if i in dead else 1 for i in range(8)])
    small = compact(model)
    assert shapes(small) == [(1, 1, 3, 3), (3, 3, 1, 6), (1, 1, 6, 2)]
    assert_same(model, small, rng)
    of_a, of_g, of_b = 3 * 3 + 3, 9 * 6 + 6, 6 * 2 + 2
    assert small.count_params() == of_a + of_g + 4 * 6 + of_b


@pytest.mark.parametrize(("padding", "goes"), [("valid", True), ("same", False)])
def test_constants_that_a_group_reads_go_into_its_biases(padding, goes, rng):
    model, a, *_ = in_groups(rng, padding=padding)
    constant = [0, 2, 4, 6]
    cut(a, ..., constant)
    a.bias.assign([2.0] * 8)
    small = compact(model)
    assert small.get_layer("g").kernel.shape == (3, 3, 1 if goes else 2, 12)
    assert_same(model, small, rng)


def test_a_group_that_makes_constants_goes_into_what_reads_them(rng):
    model, _, g, _ = in_groups(rng)
    cut(g, ..., slice(9, 12))
    small = compact(model)
    assert shapes(small) == [(1, 1, 3, 6), (3, 3, 2, 9), (1, 1, 9, 2)]
    assert_same(model, small, rng)


def test_a_group_stays_whose_inputs_others_read(rng):
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(4, 1, name="a")(inputs)
    y = layers.Conv2D(4, 3, groups=2, name="g", padding="same")(x)
    y = layers.Conv2D(2, 1, name="b")(y)
    z = layers.Conv2D(2, 1, name="c")(x)
    model = keras.Model(inputs, [y, z])
    for w in model.weights:
        w.assign(rng.normal(size=w.shape))
    cut(model.get_layer("b"), slice(None), slice(None), slice(0, 2))
    small = compact(model)
    assert shapes(small) == shapes(model)
    cut(model.get_layer("c"), slice(None), slice(None), slice(0, 2))
    small = compact(model)
    assert shapes(small) == [(1, 1, 3, 2), (3, 3, 2, 2), (1, 1, 2, 2)]
    x = rng.normal(size=(3, 4, 4, 3))
    for a, b in zip(model(x), small(x), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_what_is_left_may_be_one_group(rng):
    inputs = keras.Input((6, 4))
    x = layers.Conv1D(6, 3, groups=2, name="g", activation="relu")(inputs)
    x = layers.Conv1D(6, 2, groups=3, name="h", padding="causal")(x)
    model = keras.Model(inputs, layers.Dense(2, name="b")(x))
    for w in model.weights:
        w.assign(rng.normal(size=w.shape))
    cut(model.get_layer("b"), slice(2, 6))
    small = compact(model)
    g, h, b = (small.get_layer(name) for name in "ghb")
    # The inputs stay, so that both groups of the first do, with as many channels.
    assert (g.groups, g.kernel.shape) == (2, (3, 2, 6))
    assert (h.groups, h.kernel.shape, b.kernel.shape) == (3, (2, 2, 6), (6, 2))
    assert_same(model, small, rng)
    inputs = keras.Input((6, 4))
    x = layers.Dense(6, name="a")(inputs)
    x = layers.Conv1D(6, 2, groups=3, name="g", padding="causal")(x)
    model = keras.Model(inputs, layers.Dense(2, name="b")(x))
    for w in model.weights:
        w.assign(rng.normal(size=w.shape))
    cut(model.get_layer("b"), slice(2, 6))
    small = compact(model)
    assert small.get_layer("g").groups == 1
    assert shapes(small) == [(4, 2), (2, 2, 2), (2, 2)]
    assert_same(model, small, rng)


@pytest.mark.slow
@settings(max_examples=25)
@given(st.integers(0, 2**32 - 1))
def test_random_masks_leave_what_a_count_by_hand_does(seed):
    rng = np.random.default_rng(seed)
    model, *kernels = in_groups(rng, size=1, use_bias=False)
    for layer in kernels:
        kept = rng.random(layer.kernel.shape) < 0.35
        layer.kernel.assign(layer.kernel * kept)
    a, g, b = (ops.convert_to_numpy(x.kernel)[0, 0] != 0 for x in kernels)
    made, read = a.any(0).reshape(4, 2), b.any(1).reshape(4, 3)
    links = np.moveaxis(g.reshape(2, 4, 3), 1, 0) & made[:, :, None] & read[:, None, :]
    ins, outs = links.any(2).sum(1), links.any(1).sum(1)
    if not links.any():
        with pytest.raises(ValueError, match="No path"):
            compact(model)
        return
    groups, n, m = np.sum(ins > 0), ins.max(), outs.max()
    small = compact(model)
    assert shapes(small) == [
        (1, 1, 3, groups * n),
        (1, 1, n, groups * m),
        (1, 1, groups * m, 2),
    ]
    assert small.get_layer("g").groups == groups
    assert_same(model, small, rng)
    before, after = (ConnectionGraph(x).effective() for x in (model, small))
    assert sum(x.sum() for x in before) == sum(x.sum() for x in after)


def test_nothing_says_that_one_channel_of_a_group_can_go():
    inputs = keras.Input((5, 5, 3))
    x = layers.Conv2D(8, 1, name="a")(inputs)
    x = layers.Conv2D(8, 3, groups=4, name="g")(x)
    model = keras.Model(inputs, layers.Conv2D(2, 1, name="b")(x))
    for row in check_target(model, "compact").rows[:2]:
        assert not row.gains and row.granularity is None
        assert "as many in each group of 'g' (Conv2D)" in row.reason


def test_the_report_tells_of_dead_channels_of_some_groups(rng):
    model, _, _, b = in_groups(rng)
    cut(b, slice(None), slice(None), [0, 1, 7])
    report = compaction_report(model, compact(model), seconds=0)
    reason = "they only go with as many in each group of 'g' (Conv2D)"
    assert report.stays == {"g": f"3 of 12 stay: {reason}"}
    assert reason in str(report)
