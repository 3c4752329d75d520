"""Masks that no loss depends on."""

import keras
import numpy as np
import pytest

from scl_keras import SwitcherModel, TargetSparsity, find_masks, sparsify

pytestmark = pytest.mark.filterwarnings("ignore:Gradients do not exist")
RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(64, 6)).astype("float32"), RNG.normal(size=(64, 3))


def _two_heads():
    keras.utils.set_random_seed(0)
    inputs = keras.Input((6,))
    x = keras.layers.Dense(16, "relu", name="trunk")(inputs)
    heads = {name: keras.layers.Dense(3, name=name)(x) for name in ("used", "unused")}
    return keras.Model(inputs, heads)


def _kept(model, name):
    return int(model.get_layer(name).kernel_mask.count())


@pytest.mark.parametrize("normalization", ["network", "layer", "feature", None])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_an_output_without_a_loss_is_not_cut(normalization, jit_compile):
    model = sparsify(_two_heads())
    model.compile(
        "adam",
        {"used": "mse"},
        connection_cost=3.0,
        normalization=normalization,
        jit_compile=jit_compile,
    )
    masks = {x: model.get_layer(x).kernel_mask for x in ("trunk", "used", "unused")}
    before = {name: mask.values() for name, mask in masks.items()}
    model.fit(X, {"used": Y}, 8, 5, 0)
    for name, mask in masks.items():
        stayed = np.array_equal(before[name], mask.values())
        assert stayed == (name == "unused")
    assert _kept(model, "used") == 1 and _kept(model, "unused") == 48


@pytest.mark.parametrize("mask_optimizer", [None, "adam"])
@pytest.mark.parametrize("micro_steps", [None, 2])
def test_it_counts_for_a_target_which_the_others_meet(mask_optimizer, micro_steps):
    model = sparsify(_two_heads())  # 96 + 48 + 48 connections
    optimizer = keras.optimizers.Adam(gradient_accumulation_steps=micro_steps)
    model.compile(
        optimizer, {"used": "mse"}, mask_optimizer=mask_optimizer, connection_cost=0.1
    )
    model.fit(X, {"used": Y}, 8, 18, 0, [TargetSparsity(0.5)])
    assert _kept(model, "unused") == 48
    assert sum(int(mask.count()) for mask in find_masks(model)) == 96


def test_a_head_may_get_its_loss_later():
    model = sparsify(_two_heads())
    model.compile("adam", {"used": "mse"}, connection_cost=3.0)
    model.fit(X, {"used": Y}, 8, 2, 0)
    model.compile("adam", {"used": "mse", "unused": "mse"}, connection_cost=3.0)
    model.fit(X, {"used": Y, "unused": Y}, 8, 5, 0)
    assert _kept(model, "unused") == 1


def test_a_switcher_decides_by_what_the_loss_depends_on():
    model = SwitcherModel(_two_heads())
    model.compile("adam", {"used": "mse"}, task_steps=1, connection_cost=0.1)
    model.fit(X, {"used": Y}, 8, 3, 0)
    assert int(model.mask_optimizer.iterations) == 12
    assert float(model.optimizer.threshold) != 0


def _fit_to(model, **target):
    options = {"epochs": 6, "verbose": 0, "callbacks": [TargetSparsity(**target)]}
    model.fit(X, {"used": Y, "unused": Y}, **options)


def test_what_no_loss_depends_on_stays_and_counts():
    model = sparsify(_two_heads())  # 96 + 48 connections are trained, and 48 are not
    model.compile("adam", {"used": "mse"})
    for compression in (1.5, 2.0):  # the second target begins where that one ended
        _fit_to(model, compression=compression)
        kept = [int(mask.count()) for mask in find_masks(model)]
        assert sum(kept) == round(192 / compression)
        assert _kept(model, "unused") == 48
        assert all(bool(mask.frozen.value) for mask in find_masks(model))


def test_a_target_that_takes_all_of_the_others_is_refused():
    model = sparsify(_two_heads())
    model.compile("adam", {"used": "mse"})
    with pytest.raises(ValueError, match="no loss depends on unused/kernel.*or less"):
        _fit_to(model, sparsity=0.8)
    model.compile("adam", {"used": "mse", "unused": "mse"})
    _fit_to(model, sparsity=0.8)
