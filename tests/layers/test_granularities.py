"""Masks coarser than their kernels, on every kind of layer."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from cases import CASES, random_masks

from scl_keras import Block, find_masks, sparsify, strip_masks, summary
from scl_keras.graph.kernels import prunable_kernels

NAMES = (
    *("Dense", "EinsumDense", "Conv1D", "Conv2D", "Conv2DTranspose", "Embedding"),
    *("DepthwiseConv2D", "SeparableConv1D", "GRU", "MultiHeadAttention", "one's own"),
)
GRANULARITIES = ["channel", Block(4), Block(2, axis=-1)]
some_layers = pytest.mark.parametrize(
    "case", [x for x in CASES if x.name in NAMES], ids=lambda case: case.name
)
every_granularity = pytest.mark.parametrize("granularity", GRANULARITIES, ids=str)


def owners(mask):
    """For each connection the number of the mask variable that switches it."""
    shape, feature_axes = mask.kernel_shape, mask.feature_axes
    number = np.zeros(shape, int)
    seen = {}
    for index in np.ndindex(*shape):
        if isinstance(mask.granularity, Block):
            axis = mask.granularity.axis % len(shape)
            key = list(index)
            key[axis] //= mask.granularity.size
        else:
            key = [index[axis] for axis in feature_axes]
        number[index] = seen.setdefault(tuple(key), len(seen))
    return number


def kernels(layer):
    return [(getattr(k.layer, k.name), k.mask, k) for k in prunable_kernels(layer)]


def gradients_of(case, layer, x, variables):
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(tf.sin(tf.cast(case.call(layer, x), "float64")))
    gradients = tape.gradient(loss, [v.value for v in variables])
    return [tf.convert_to_tensor(g).numpy() for g in gradients]


@every_granularity
@some_layers
def test_gradients_are_the_sums_of_those_of_the_connections(case, granularity, rng):
    """The stock layer with zeros in it gives dL/dw; loops add up dL/dw · v."""
    masked = case.masked(granularity=granularity, dtype="float64")
    stock = case.stock(dtype="float64")
    for layer in (masked, stock):
        case.call(layer, case.symbolic())
    values = [rng.normal(size=w.shape) for w in stock.weights]
    plain = [w for w in masked.weights if not hasattr(w, "connection_mask")]
    for a, b, value in zip(plain, stock.weights, values, strict=True):
        a.assign(value)
        b.assign(value)
    x = case.inputs(rng, "float64")
    np.testing.assert_array_equal(case.call(masked, x), case.call(stock, x))
    random_masks(masked, 0.6)
    pairs = list(zip(kernels(masked), kernels(stock), strict=True))
    for (v, mask, _), (w, _, _) in pairs:
        number = owners(mask)
        s = mask.variable.numpy().ravel()
        assert s.size == number.max() + 1
        np.testing.assert_array_equal(mask.kept("bool"), (s > 0)[number])
        w.assign(v.numpy() * (s > 0)[number])
        assert int(mask.count()) == np.sum((s > 0)[number])
        assert mask.size == number.size
    biases = []
    for (_, mask, kernel), (_, _, stock_kernel) in pairs:
        owner, other = kernel.layer, stock_kernel.layer
        if getattr(owner, "channel_mask", None) is mask and owner.bias is not None:
            biases.append((mask, owner.bias, other.bias))
            other.bias.assign(owner.bias * (mask.variable.numpy().ravel() > 0))
    outputs = case.call(masked, x), case.call(stock, x)
    np.testing.assert_array_equal(*outputs)
    switches = [mask.variable for (_, mask, _), _ in pairs]
    weights = [w for _, (w, _, _) in pairs] + [bias for _, _, bias in biases]
    found = gradients_of(case, masked, x, switches)
    reference = gradients_of(case, stock, x, weights)
    for i, ((v, mask, _), _) in enumerate(pairs):
        if mask.acts_behind():  # dL/dy · y of each channel, of the loss sum(sin(H · y))
            before = mask.variable.numpy()
            mask.variable.assign(np.ones_like(before))
            y = case.call(masked, x).numpy()
            mask.variable.assign(before)
            worth = np.cos(outputs[0].numpy()) * y
            expected = worth.reshape(-1, y.shape[-1]).sum(0)
            np.testing.assert_allclose(found[i].ravel(), expected, rtol=1e-5)
            continue
        expected = np.bincount(owners(mask).ravel(), (reference[i] * v.numpy()).ravel())
        for j, (owner, bias, _) in enumerate(biases):
            if owner is mask:
                expected = expected + reference[len(pairs) + j] * bias.numpy()
        np.testing.assert_allclose(found[i].ravel(), expected, rtol=1e-5, atol=1e-6)


@every_granularity
@some_layers
def test_configs_and_files_bring_it_back(case, granularity, rng, tmp_path):
    model = sparsify(case.model(case.stock()), granularity=granularity)
    random_masks(model)
    x = case.inputs(rng)
    expected = model(x)
    model.save(tmp_path / "m.keras")
    loaded = keras.models.load_model(tmp_path / "m.keras")
    np.testing.assert_array_equal(loaded(x), expected)
    for a, b in zip(find_masks(loaded), find_masks(model), strict=True):
        assert a.granularity == b.granularity
        assert a.sizes is b.sizes or np.array_equal(a.sizes, b.sizes)
    stripped = strip_masks(model, copy=True)
    assert find_masks(stripped) == []
    np.testing.assert_array_equal(stripped(x), expected)
    rows = [
        [(r.kept, r.macs) for r in summary(m, None).rows] for m in (model, stripped)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("name", "policy"), [("Dense", "mixed_float16"), ("Conv2D", "float32")]
)
@every_granularity
def test_compiled_and_in_mixed_precision_it_trains(name, policy, granularity, rng):
    (case,) = [case for case in CASES if case.name == name]
    stock = case.model(case.stock(dtype=policy))
    model = sparsify(stock, granularity=granularity, copy=True)
    x = case.inputs(rng)
    np.testing.assert_array_equal(model(x), stock(x))
    model.compile("sgd", "mse", jit_compile=True, connection_cost=0.5)
    before = [mask.variable.numpy() for mask in find_masks(model)]
    logs = model.train_on_batch(x, np.ones(model(x).shape), return_dict=True)
    assert logs["sparsity"] == 0
    size = sum(mask.size for mask in find_masks(model))
    loss = float(model.scl_optimizer.connection_loss())
    assert loss == pytest.approx(0.5 * size)
    for mask, old in zip(find_masks(model), before, strict=True):
        assert mask.variable.dtype == "float32"
        assert np.isfinite(mask.variable).all() and np.any(mask.variable != old)
