"""N:M sparsity by `prune` and `GradualPruning`, against TFMOT and brute force."""

import itertools

import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers

from scl_keras import (
    NM,
    Block,
    GradualPruning,
    effective_masks,
    find_masks,
    prune,
    sparsify,
    strip_masks,
)
from scl_keras.masks import Mask
from scl_keras.pruning import ConstantSparsity, PolynomialDecay
from scl_keras.pruning.groups import admitted, keep_most
from scl_keras.report import check_groups


def network(features=10):
    inputs = keras.Input((6, 6, features))
    x = layers.Conv2D(7, 3, activation="relu", name="conv")(inputs)
    x = layers.Flatten()(x)
    x = layers.Dense(12, "relu", name="hidden")(x)
    return keras.Model(inputs, layers.Dense(3, name="last")(x))


def kernels(model):
    return [np.array(layer.kernel) for layer in model.layers if hasattr(layer, "units")]


def test_magnitudes_keep_what_tfmot_keeps():
    """By its own function, for kernels whose inputs fill the last group and not."""
    utils = pytest.importorskip(
        "tensorflow_model_optimization.python.core.sparsity.keras.pruning_utils"
    )
    model = network()
    weights = [np.array(layer.kernel) for layer in model.layers if layer.weights]
    prune(model, granularity=NM(2, 4), verbose=0)
    for w, mask in zip(weights, find_masks(model), strict=True):
        flat = utils.weights_rearrange(tf.constant(w))
        theirs = utils.generate_m_by_n_mask(flat, (2, 4))
        theirs = utils.m_by_n_sparsity_mask_prepare(theirs, tf.TensorShape(w.shape))
        np.testing.assert_array_equal(mask.kept(), theirs)


@settings(max_examples=60)
@given(seed=st.integers(0, 9999), n=st.integers(1, 3), rows=st.integers(1, 9))
def test_the_best_candidates_of_each_group_are_admitted(seed, n, rows):
    rng = np.random.default_rng(seed)
    mask = Mask(granularity=NM(n, 4), ste=None)
    mask.build((rows, 2))
    scores = rng.integers(-1, 3, (rows, 2)).astype("float64")
    scores[rng.random((rows, 2)) < 0.2] = -np.inf  # as of synaptic flow
    allowed = rng.random((rows, 2)) < 0.7
    found = admitted(mask, scores, allowed)
    expected = np.zeros((rows, 2), bool)
    for column, begin in itertools.product(range(2), range(0, rows, 4)):
        group = [i for i in range(begin, min(begin + 4, rows)) if allowed[i, column]]
        for i in sorted(group, key=lambda i: -scores[i, column])[:n]:
            expected[i, column] = True
    np.testing.assert_array_equal(found, expected)


@settings(max_examples=60)
@given(seed=st.integers(0, 9999), count=st.integers(1, 24))
def test_the_others_of_each_group_go_first(seed, count):
    rng = np.random.default_rng(seed)
    scores = [rng.normal(size=(8, 2)), rng.normal(size=(4, 2))]
    candidates = []
    for values in scores:
        mask = Mask(granularity=NM(2, 4), ste=None)
        mask.build(values.shape)
        candidates.append(admitted(mask, values, np.ones(values.shape, bool)))
    kept = keep_most(scores, count, None, candidates)
    best = np.concatenate([c.ravel() for c in candidates])
    flat = np.concatenate([k.ravel() for k in kept])
    values = np.concatenate([s.ravel() for s in scores])
    assert flat.sum() == count
    assert not (flat & ~best).any() if count <= 12 else flat[best].all()
    group = best if count <= 12 else ~best
    if (group & flat).any() and (group & ~flat).any():
        assert values[group & flat].min() > values[group & ~flat].max()


METHODS = ["magnitude", "lamp", "snip", "synflow", "random", "iterative_snip"]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("arguments", [{}, {"sparsity": 0.7}, {"quotas": "erk"}])
def test_every_method_is_exact_in_every_group(method, arguments, rng):
    x, y = rng.normal(size=(16, 6, 6, 10)), rng.normal(size=(16, 3))
    options = {"data": (x, y), "loss": "mse"} if "snip" in method else {}
    model = network()
    prune(model, method, granularity=NM(2, 4), verbose=0, **arguments, **options)
    check = check_groups(model)
    assert check.holds and len(check.rows) == 3
    masks = find_masks(model)
    kept, size = (sum(f(m) for m in masks) for f in (lambda m: int(m.count()), _size))
    capacity = sum(mask.capacity for mask in masks)
    # Inputs of the convolution: groups of 4, 4 and 2, of which 2 each are kept.
    assert masks[0].capacity == 9 * 7 * 6
    asked = round((1 - arguments["sparsity"]) * size) if "sparsity" in arguments else 0
    assert kept == (asked or capacity)
    stock = strip_masks(model)
    assert check_groups(stock, NM(2, 4)).holds and not find_masks(stock)


def _size(mask):
    return mask.size


@pytest.mark.parametrize("quotas", [None, "uniform"])
def test_effective_connections_are_counted_and_groups_hold(quotas):
    model = prune(
        *(network(), "lamp", 0.95),
        **{"granularity": NM(2, 4), "quotas": quotas, "effective": True, "verbose": 0},
    )
    size = sum(mask.size for mask in find_masks(model))
    effective = sum(int(e.sum()) for e in effective_masks(model).values())
    kept = sum(int(mask.count()) for mask in find_masks(model))
    # What brings others to life may bring one more.
    assert kept == effective and 0 <= effective - round(0.05 * size) <= 2
    assert check_groups(model).holds
    by_default = prune(network(), granularity=NM(1, 4), effective=True, verbose=0)
    found = sum(int(e.sum()) for e in effective_masks(by_default).values())
    assert found == sum(int(mask.count()) for mask in find_masks(by_default))


def test_what_is_cut_stays_cut_and_limits_what_a_group_can_keep(rng):
    model = sparsify(network(), ste=None, granularity=NM(2, 4), verbose=0)
    before = []
    for mask in find_masks(model):
        kept = np.ones(mask.kernel_shape, bool)
        kept[..., 0::2, :] = False  # two of each four are left
        kept[..., 1, :] = False
        mask.assign(kept)
        before.append(kept)
    prune(model, "lamp", verbose=0)
    for mask, kept in zip(find_masks(model), before, strict=True):
        np.testing.assert_array_equal(mask.kept("bool"), kept)
    with pytest.raises(ValueError, match="stays cut"):
        prune(model, "lamp", sparsity=0.5, verbose=0)


def test_refusals_leave_the_model_as_it_was():
    model = network()
    kind, weights = type(model), [w.numpy() for w in model.weights]
    for arguments, message in [
        ({"sparsity": 0.3, "granularity": NM(2, 4)}, "at most.*Ask for a sparsity of"),
        ({"sparsity": 0.6, "granularity": NM(1, 4)}, "Received: a sparsity of 0.6"),
        ({"sparsity": 0.6, "granularity": Block(4)}, "one by one.*block of 4"),
        ({"granularity": "connection"}, "either `sparsity` or `compression`"),
        ({}, "either `sparsity` or `compression`"),
    ]:
        with pytest.raises(ValueError, match=message):
            prune(model, "magnitude", verbose=0, **arguments)
        assert type(model) is kind and not find_masks(model)
        for weight, value in zip(model.weights, weights, strict=True):
            np.testing.assert_array_equal(weight, value)
    prune(model, sparsity=0.5, verbose=0)
    with pytest.raises(ValueError, match="`granularity` is for stock models"):
        prune(model, sparsity=0.6, granularity=NM(2, 4), verbose=0)


def gradual(rng, schedule, epochs=4, quotas=None):
    """Trains and prunes; returns the model, and a check after each step."""
    x, y = rng.normal(size=(32, 6, 6, 10)), rng.normal(size=(32, 3))
    model = sparsify(network(), ste=None, granularity=NM(2, 4), verbose=0)
    model.compile(keras.optimizers.Adam(1e-3), "mse")
    seen = []
    look = keras.callbacks.LambdaCallback(
        on_train_batch_end=lambda batch, logs: seen.append(
            (check_groups(model).holds, sum(int(m.count()) for m in find_masks(model)))
        )
    )
    callbacks = [GradualPruning(schedule, quotas=quotas), look]
    model.fit(x, y, 8, epochs, verbose=0, callbacks=callbacks)
    return model, seen


def test_a_constant_schedule_is_n_of_m_from_its_first_step_on(rng):
    model, seen = gradual(rng, ConstantSparsity(0.5, begin_step=4, frequency=2))
    size = sum(mask.size for mask in find_masks(model))
    assert seen[0] == (False, size)  # dense before, as in TFMOT
    assert all(holds and kept == round(size / 2) for holds, kept in seen[4:])


@pytest.mark.parametrize("quotas", [None, "uniform", "erk"])
def test_a_rising_schedule_comes_to_n_of_m_step_by_step(quotas, rng):
    schedule = PolynomialDecay(0.1, 0.8, begin_step=0, end_step=12, frequency=2)
    model, seen = gradual(rng, schedule, quotas=quotas)
    size = sum(mask.size for mask in find_masks(model))
    kept = [count for _, count in seen]
    assert kept == sorted(kept, reverse=True) and kept[-1] == round(0.2 * size)
    capacity = sum(mask.capacity for mask in find_masks(model))
    for holds, count in seen:
        assert holds or count > capacity
    assert not seen[0][0] and seen[-1][0]


def test_a_schedule_that_ends_above_what_groups_keep_is_refused(rng):
    with pytest.raises(ValueError, match="granularity 2:4 keep at most"):
        gradual(rng, ConstantSparsity(0.3, begin_step=0))
