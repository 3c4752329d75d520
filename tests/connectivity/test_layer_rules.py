"""Layers of one's own, each made known by one registration."""

import math

import keras
import numpy as np
import pytest
from keras import layers, ops

from scl_keras import (
    MaskedKernel,
    MaskedLayer,
    compact,
    compaction_report,
    find_masks,
    sparsify,
)
from scl_keras.connectivity import (
    ELEMENTWISE,
    ConnectionGraph,
    LayerRule,
    register_rule,
    rule_of,
    stand_in,
)
from scl_keras.connectivity.compaction_plan import CompactionPlan
from scl_keras.pruning import PrunableNetwork
from scl_keras.pruning.flow import SynapticFlow
from scl_keras.targets import check_target


def at_each_place(kernel, call):
    return math.prod(call.output_shape[1:-1])


@keras.saving.register_keras_serializable("test_layer_rules")
class LowRank(layers.Layer):
    """`x · down · up + bias`."""

    def __init__(self, rank, units, **kwargs):
        super().__init__(**kwargs)
        self.rank, self.units = rank, units

    def build(self, shape):
        self.down = self.add_weight((shape[-1], self.rank), name="down")
        self.up = self.add_weight((self.rank, self.units), name="up")
        self.bias = self.add_weight((self.units,), name="bias")

    def call(self, x):
        return ops.matmul(ops.matmul(x, self.down), self.up) + self.bias

    def compute_output_shape(self, shape):
        return (*shape[:-1], self.units)

    def get_config(self):
        return {**super().get_config(), "rank": self.rank, "units": self.units}


@keras.saving.register_keras_serializable("test_layer_rules")
class MaskedLowRank(MaskedLayer, LowRank):
    down = MaskedKernel(positions=at_each_place)
    up = MaskedKernel(positions=at_each_place)


def shrink_low_rank(layer, weights, kept):
    down, up, bias = weights
    bias = bias if kept.shift is None else bias + kept.shift
    weights = [down[kept.inputs], up[:, kept.outputs], bias[kept.outputs]]
    return {"units": kept.units}, weights


register_rule(
    LowRank,
    rule=LayerRule(
        reach=lambda layer, x, down, up: ops.matmul(ops.matmul(x, down), up),
        kernels=("down", "up"),
        mixes_channels=True,
        folds_constants=True,
        shrink=shrink_low_rank,
    ),
)


@keras.saving.register_keras_serializable("test_layer_rules")
class Snake(layers.Layer):
    def call(self, x):
        return x + ops.square(ops.sin(x))


register_rule(Snake, rule=ELEMENTWISE)


def low_rank_network(rng, density=0.6):
    inputs = keras.Input((2, 4))
    x = layers.Dense(5, name="first")(inputs)
    x = Snake()(LowRank(3, 6, name="own")(x))
    model = keras.Model(inputs, layers.Dense(2, name="last")(x))
    for w in model.weights:
        values = rng.integers(1, 5, w.shape) * rng.choice([-1, 1], w.shape)
        w.assign(values * (rng.random(w.shape) < density))
    return model


def shares(model, with_bias):
    """What each connection of `low_rank_network` brings to the sum over all paths."""
    names = ["first", "own", "last"]
    values = [
        [
            np.abs(w.numpy()).astype("float64")
            for w in model.get_layer(n).weights
            if not hasattr(w, "connection_mask")
        ]
        for n in names
    ]
    (k1, b1), (down, up, b2), (k2, b3) = values
    if not with_bias:
        for bias in (b1, b2, b3):
            bias[:] = 0

    def total():
        return np.sum(((np.ones((2, 4)) @ k1 + b1) @ down @ up + b2) @ k2 + b3)

    found = []
    for kernel in (k1, down, up, k2):
        share = np.zeros(kernel.shape)
        for i in np.ndindex(*kernel.shape):
            before, value = total(), kernel[i]
            kernel[i] = 0
            share[i], kernel[i] = before - total(), value
        found.append(share)
    return found


def test_it_is_followed_as_brute_force_does(rng):
    for _ in range(5):
        model = low_rank_network(rng)
        masked = sparsify(model, copy=True)
        kept = [kernel.kept() for kernel in ConnectionGraph(model).kernels]
        for mask, values in zip(find_masks(masked), kept, strict=True):
            mask.assign(values)
        expected = [share > 0 for share in shares(model, with_bias=False)]
        for net in (model, masked):
            graph = ConnectionGraph(net)
            assert graph.unknown == ()
            names = [kernel.name for kernel in graph.kernels]
            assert names == ["kernel", "down", "up", "kernel"]
            for found, wanted in zip(graph.effective(), expected, strict=True):
                np.testing.assert_array_equal(found, wanted)


def test_its_synaptic_flow_is_what_cutting_each_connection_takes_away(rng):
    model = low_rank_network(rng)
    network = PrunableNetwork(sparsify(model, ste=None))
    flow = SynapticFlow(network.graph)
    found = flow.log_scores(network.kernels, network.weights())
    for log_scores, share in zip(found, shares(model, with_bias=True), strict=True):
        np.testing.assert_allclose(np.exp(log_scores), share, rtol=1e-9)


def assert_same(model, small, rng):
    x = rng.normal(size=(3, *model.input_shape[1:])).astype("float32")
    a, b = model(x), small(x)
    scale = np.max(np.abs(a))
    np.testing.assert_allclose(a / scale, b / scale, rtol=1e-4, atol=1e-5)


def test_it_is_compacted_and_counted(rng):
    model = low_rank_network(rng, density=1)
    first, last = model.get_layer("first"), model.get_layer("last")
    columns, rows = np.ones((4, 5)), np.ones((6, 2))
    columns[:, 1] = 0  # its bias is a constant, which goes into the bias of `own`
    rows[2:4] = 0
    first.kernel.assign(first.kernel.numpy() * columns)
    last.kernel.assign(last.kernel.numpy() * rows)
    small = compact(model)
    assert first.bias.numpy()[1] != 0
    shapes = [tuple(w.shape) for w in small.get_layer("own").weights]
    assert shapes == [(4, 3), (3, 4), (4,)]
    assert small.get_layer("first").units == 4
    assert small.get_layer("last").kernel.shape == (4, 2)
    assert_same(model, small, rng)
    report = compaction_report(model, small, seconds=0.01)
    assert report.macs_before == 2 * (4 * 5 + 5 * 3 + 3 * 6 + 6 * 2)
    assert report.macs_after == 2 * (4 * 4 + 4 * 3 + 3 * 4 + 4 * 2)


def test_random_zeros_are_compacted(rng):
    for _ in range(10):
        model = low_rank_network(rng, density=0.35)
        try:
            small = compact(model)
        except ValueError as error:
            assert "No path" in str(error)
            continue
        assert_same(model, small, rng)
        effective = [
            sum(m.sum() for m in ConnectionGraph(net).effective())
            for net in (model, small)
        ]
        assert effective[0] == effective[1]


def test_a_target_knows_that_it_gets_smaller(rng):
    rows = check_target(low_rank_network(rng), "compact").rows
    assert [row.gains for row in rows] == [True, True, True, True]


class Unbiased(LowRank):
    """Has nowhere to put a constant."""


def shrink_unbiased(layer, weights, kept):
    assert kept.shift is None
    return shrink_low_rank(layer, weights, kept)


register_rule(
    Unbiased,
    rule=LayerRule(
        reach=lambda layer, x, down, up: ops.matmul(ops.matmul(x, down), up),
        kernels=("down", "up"),
        mixes_channels=True,
        shrink=shrink_unbiased,
    ),
)


def test_constants_stay_in_front_of_a_layer_that_does_not_take_them(rng):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, bias_initializer="ones", name="first"),
            Unbiased(3, 4, name="own"),
            layers.Dense(2, name="last"),
        ]
    )
    kernel = model.layers[0].kernel.numpy()
    kernel[:, :2] = 0
    model.layers[0].kernel.assign(kernel)
    model.layers[0].bias.assign([0, 1, 1, 1, 1])
    rows = model.layers[2].kernel.numpy()
    rows[0] = 0
    model.layers[2].kernel.assign(rows)
    small = compact(model)
    assert small.get_layer("own").down.shape == (4, 3)  # the zero goes
    assert small.get_layer("own").up.shape == (3, 3)
    assert_same(model, small, rng)


class OnlyReach(layers.Dense):
    pass


class NoShrink(layers.Layer):
    def build(self, shape):
        self.scale = self.add_weight((shape[-1],), "ones")

    def call(self, x):
        return x * self.scale


@pytest.mark.parametrize("layer", [OnlyReach(4, name="own"), NoShrink(name="own")])
def test_what_does_not_say_how_it_shrinks_stays_whole(layer, rng):
    stand_in(OnlyReach, kernels=("kernel",))(
        lambda layer, x, kernel: ops.matmul(x, kernel)
    )
    register_rule(NoShrink, rule=ELEMENTWISE)
    model = keras.Sequential(
        [keras.Input((4,)), layers.Dense(5, name="first"), layer, layers.Dense(2)]
    )
    kernel = model.layers[0].kernel.numpy()
    kernel[:, 1] = 0
    model.layers[0].kernel.assign(kernel)
    assert ConnectionGraph(model).unknown == ()
    small = compact(model)
    assert small.get_layer("first").units == 5
    assert_same(model, small, rng)


def test_a_subclass_with_the_same_call_has_the_rule_of_its_parent():
    class MyConv(layers.Conv2D):
        pass

    class Doubled(layers.Conv2D):
        def call(self, x):
            return 2 * super().call(x)

    assert rule_of(MyConv) is rule_of(layers.Conv2D)
    assert rule_of(Doubled) == LayerRule()


def test_a_subclass_may_have_the_rule_of_its_parent(rng):
    class MyConv(layers.Conv2D):
        def call(self, x):
            return super().call(x)

    register_rule(MyConv, rule=rule_of(layers.Conv2D))
    model = keras.Sequential(
        [keras.Input((6, 6, 2)), MyConv(4, 3, name="own"), layers.Conv2D(2, 3)]
    )
    kernel = model.layers[0].kernel.numpy()
    kernel[..., 1] = 0
    model.layers[0].kernel.assign(kernel)
    small = compact(model)
    assert small.get_layer("own").kernel.shape == (3, 3, 2, 3)
    assert_same(model, small, rng)


def test_the_rule_of_a_masked_layer_is_its_stock_layers():
    assert rule_of(MaskedLowRank) is rule_of(LowRank(1, 1)) is rule_of(LowRank)
    assert rule_of("no layer") == LayerRule()


def test_planning_leaves_the_model_alone(rng):
    model = low_rank_network(rng, density=0.5)
    before = model.get_weights()
    plan = CompactionPlan(ConnectionGraph(model))
    outputs = [call.outputs[0] for call in plan.calls]
    assert not all(plan.kept(x).all() for x in outputs)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_rules_that_can_not_be_are_refused():
    with pytest.raises(ValueError, match="tuple.*Received: kernels='kernel'"):
        LayerRule(kernels="kernel")
    with pytest.raises(ValueError, match="needs `reach`.*Received: reach=None"):
        LayerRule(kernels=("kernel",), mixes_channels=True)
