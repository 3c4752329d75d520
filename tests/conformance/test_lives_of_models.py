"""Models of others are masked, trained, saved and stripped as they are."""

import itertools

import keras
import numpy as np
import pytest
from keras import ops
from lives import (
    BATCH_SIZE,
    SPARSITY,
    compiled,
    fit,
    generated,
    live,
    mask_values,
    outputs,
)
from marks import names
from models import BATCH

from scl_keras import SCLModel, find_masks, sparsify, strip_masks, stripped
from scl_keras.conversion.coverage import coverage_of, kernels_of
from scl_keras.conversion.masked_model import is_masked
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.walking import walk_inside

# Stock Keras says so, too, of a model that wasn't trained yet, and KerasHub compiles
# each as it makes it.
of_untrained_optimizers = pytest.mark.filterwarnings(
    "ignore:Skipping variable loading for optimizer"
)


@pytest.fixture(scope="module", params=names())
def life(request):
    return live(request.param)


@pytest.fixture
def again(life, tmp_path):
    """The trained model, from its file."""
    life.model.save(tmp_path / "m.keras")
    return keras.saving.load_model(tmp_path / "m.keras")


def assert_equal(weight, value):
    value = ops.convert_to_numpy(value)
    np.testing.assert_array_equal(
        ops.convert_to_numpy(weight), value, err_msg=weight.path
    )


def test_nearly_all_is_masked(life):
    coverage = coverage_of(life.model, lambda layer: "no mask")
    sizes = [np.prod(v.shape) for _, v in kernels_of(life.model)]
    assert coverage.masked_size >= 0.9 * sum(sizes)
    assert coverage.masked == len(find_masks(life.model))
    for name in itertools.chain(*coverage.reasons.values()):
        assert name in life.printed
    assert bool(coverage.reasons) == bool(life.printed)


def test_it_stays_what_it_is(life):
    assert isinstance(life.model, life.stock_class)
    assert isinstance(life.model, SCLModel)
    np.testing.assert_array_equal(life.after, life.before)


def test_it_reaches_its_target(life):
    masks = find_masks(life.model)
    size = sum(mask.size for mask in masks)
    assert sum(int(mask.count()) for mask in masks) == round((1 - SPARSITY) * size)
    assert np.all(np.isfinite(life.history["loss"]))
    assert life.history["skipped_updates"] == [0, 0, 0]
    assert np.any(outputs(life.model, life.x) != life.before)


def test_its_own_train_step_runs(life):
    if life.stock_class.__name__ != "CustomFit":
        pytest.skip("has the step of Keras")
    assert life.history["own_steps"] == [BATCH // BATCH_SIZE] * 3


def test_it_generates(life):
    if not hasattr(life.model, "generate"):
        pytest.skip("writes nothing")
    written = generated(life.model, life.x)
    assert np.all(written[:, :3] == life.x["token_ids"][:, :3])
    with stripped(life.model) as stock:
        np.testing.assert_array_equal(generated(stock, life.x), written)
    np.testing.assert_array_equal(generated(life.model, life.x), written)


def test_a_file_keeps_it(life, again):
    assert type(again) is type(life.model)
    assert type(again).__name__ == f"SCL{life.stock_class.__name__}"
    for old, new in zip(find_masks(life.model), find_masks(again), strict=True):
        assert old.get_config() == new.get_config()
    for old, new in zip(mask_values(life.model), mask_values(again), strict=True):
        np.testing.assert_array_equal(new, old)
    np.testing.assert_array_equal(outputs(again, life.x), outputs(life.model, life.x))


def draws_past_its_state(model):
    """Whether stock Keras, too, trains otherwise after loading: torch's own dropout."""
    drops = [x for x in walk_inside(model) if getattr(x, "rate", 0) > 0]
    return keras.backend.backend() == "torch" and bool(drops)


def test_training_goes_on(life, again):
    state = [model.optimizer.variables for model in (life.model, again)]
    for old, new in zip(*state, strict=True):
        assert_equal(new, old)
    logs = [fit(model, life.x, life.y).history for model in (life.model, again)]
    assert np.all(np.isfinite(logs[1]["loss"]))
    if draws_past_its_state(life.model):
        return
    assert logs[0] == logs[1]
    for old, new in zip(life.model.weights, again.weights, strict=True):
        assert_equal(new, old)


@of_untrained_optimizers
def test_weights_are_loaded(life, tmp_path):
    life.model.save_weights(tmp_path / "m.weights.h5")
    other = sparsify(life.case.build(), verbose=0)
    other.load_weights(tmp_path / "m.weights.h5")
    np.testing.assert_array_equal(outputs(other, life.x), outputs(life.model, life.x))


def test_a_copy_and_its_model_are_trained_in_turn(life, again):
    """On JAX a step deletes the arrays that it was given: they can't be shared."""
    stock = compiled(strip_masks(again, copy=True))
    assert type(stock) is life.stock_class
    expected = outputs(again, life.x)
    for model, other in ((stock, again), (again, stock)):
        before = [ops.convert_to_numpy(w) + 0 for w in other.weights]
        fit(model, life.x, life.y)
        for weight, value in zip(other.weights, before, strict=True):
            assert_equal(weight, value)
    assert np.any(outputs(again, life.x) != expected)


def test_it_is_stripped(life, again):
    expected = outputs(life.model, life.x)
    kept = [kernel.kept() for kernel in prunable_kernels(again)]
    assert strip_masks(again) is again
    assert type(again) is life.stock_class
    assert not any(is_masked(layer) for layer in walk_inside(again))
    assert all(
        type(layer).__module__.split(".")[0] != "scl_keras"
        for layer in walk_inside(again)
    )
    for kernel, mask in zip(prunable_kernels(again), kept, strict=True):
        assert not np.any(kernel.kept() & ~mask)
    np.testing.assert_array_equal(outputs(again, life.x), expected)
    assert np.isfinite(fit(again, life.x, life.y).history["loss"][0])


@of_untrained_optimizers
def test_it_is_stripped_for_a_while(life, tmp_path):
    before = [ops.convert_to_numpy(w) + 0 for w in life.model.weights]
    expected = outputs(life.model, life.x)
    with stripped(life.model) as stock:
        assert type(stock) is life.stock_class
        np.testing.assert_array_equal(outputs(stock, life.x), expected)
        stock.save(tmp_path / "m.keras")
    # Stock Keras can't compile a model of KerasHub's by its file.
    loaded = keras.saving.load_model(tmp_path / "m.keras", compile=False)
    assert type(loaded) is life.stock_class
    np.testing.assert_array_equal(outputs(loaded, life.x), expected)
    for weight, value in zip(life.model.weights, before, strict=True):
        assert_equal(weight, value)
