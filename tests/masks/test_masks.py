import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from keras import ops

from scl_keras import Mask, MaskedDense, SCLModel, find_masks, sparsify
from scl_keras.masks.constraint import MaskConstraint


def built(shape=(3, 4), **kwargs):
    mask = Mask(**kwargs)
    mask.build(shape)
    return mask


VALUES = st.floats(-5, 5, width=32, allow_subnormal=False)


@settings(max_examples=60)
@given(s=hnp.arrays("float32", (2, 3), elements=VALUES), least=st.integers(0, 1))
def test_the_constraint_bounds_and_holds_up_the_largest_entry(s, least):
    after = ops.convert_to_numpy(MaskConstraint(least)(ops.array(s)))
    clipped = np.clip(s, -1, 1)
    if least and clipped.max() <= 0:
        first = np.unravel_index(clipped.argmax(), clipped.shape)
        assert 0 < after[first] < 1e-5
        after = after.copy()
        after[first] = clipped[first]
    np.testing.assert_array_equal(after, clipped)


@pytest.mark.parametrize("value", [-1.0, 0.0, -0.0, -3.0])
def test_of_equal_values_one_is_down_to_last(value):
    after = MaskConstraint(1)(ops.full((2, 2), value))
    assert np.sum(ops.convert_to_numpy(after) > 0) == 1
    assert not np.any(
        ops.convert_to_numpy(MaskConstraint(0)(ops.full((2,), value))) > 0
    )


@pytest.mark.parametrize("least", [0, 1])
def test_an_optimizer_update_applies_the_constraint(least):
    mask = built((3,), min_connections=least)
    keras.optimizers.SGD(1.0).apply([ops.array([5.0, 4.0, -9.0])], [mask.variable])
    np.testing.assert_array_equal(mask.variable, [-1, -1, 1])
    keras.optimizers.SGD(1.0).apply([ops.array([0.1, 0.0, 1.2])], [mask.variable])
    assert int(mask.count()) == least
    assert mask.is_down_to_last() == bool(least)


def test_down_to_last_is_false_while_a_connection_is_really_kept():
    mask = built((2,))
    assert not mask.is_down_to_last()
    mask.assign([0, 1])
    assert not mask.is_down_to_last()
    mask.assign([0, 0])
    assert not mask.is_down_to_last()
    mask.variable.assign(MaskConstraint(1)(mask.variable))
    assert mask.is_down_to_last()


def test_assign_sets_what_is_kept_and_nothing_else(rng):
    mask = built()
    for kept in [
        rng.random((3, 4)) > 0.5,
        rng.integers(0, 2, (3, 4)),
        np.eye(3, 4) * -7,
    ]:
        mask.assign(kept)
        np.testing.assert_array_equal(mask.kept(), np.asarray(kept) != 0)
        assert int(mask.count()) == np.count_nonzero(kept)
        np.testing.assert_array_equal(np.abs(mask.variable), np.ones((3, 4)))
    mask.assign([[0, 0, 0, 1]] * 3)
    assert int(mask.count()) == 3
    assert mask.size == 12


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, "0", None])
def test_assign_refuses_what_says_neither_kept_nor_cut(bad):
    mask = built((2, 2))
    before = mask.values()
    with pytest.raises(ValueError, match="finite numbers.*Received: kept="):
        mask.assign([[1, 0], [0, bad]])
    np.testing.assert_array_equal(mask.values(), before)


@pytest.mark.parametrize("kept", [np.ones((4, 3)), np.ones(4), 1, np.ones((1, 4))])
def test_assign_refuses_another_shape(kept):
    with pytest.raises(ValueError, match=r"\(3, 4\).*Received: kept\.shape="):
        built().assign(kept)


@pytest.mark.parametrize("least", [-1, 2, None, 0.5])
def test_min_connections_is_zero_or_one(least):
    with pytest.raises(ValueError, match="min_connections.*Received"):
        Mask(min_connections=least)


def test_mask_kernel_is_the_product_in_the_kernels_dtype(rng):
    mask = built()
    kept, kernel = rng.random((3, 4)) > 0.5, rng.normal(size=(3, 4))
    mask.assign(kept)
    for dtype in ["float16", "float32", "float64"]:
        masked = mask.mask_kernel(ops.cast(kernel, dtype))
        np.testing.assert_array_equal(masked, kernel.astype(dtype) * kept)
        assert keras.backend.standardize_dtype(masked.dtype) == dtype


def test_config_round_trip_keeps_every_argument():
    mask = Mask("random_uniform", "softplus", (-2, -1), 0, name="m")
    copy = Mask.from_config(mask.get_config())
    assert copy.get_config() == mask.get_config()
    assert copy.feature_axes == (-2, -1)
    assert copy.min_connections == 0
    assert copy.ste == mask.ste
    assert isinstance(copy.initializer, keras.initializers.RandomUniform)


@pytest.mark.parametrize("value", [0.3, -1, np.float32(0.5), np.float64(0.5)])
def test_a_number_initializes_all_mask_variables(value):
    mask = built(initializer=value)
    np.testing.assert_array_equal(mask.variable, np.full((3, 4), value, "float32"))


def test_find_masks_gives_each_mask_once_in_the_order_of_layers():
    inputs = keras.Input((4,))
    shared = MaskedDense(4, name="shared")
    inner_inputs = keras.Input((4,))
    inner = keras.Model(inner_inputs, MaskedDense(4, name="in")(shared(inner_inputs)))
    outputs = MaskedDense(2, name="last")(inner(shared(inputs)) + inner(inputs))
    model = SCLModel(inputs, outputs)
    masks = find_masks(model)
    expected = [shared.kernel_mask, inner.get_layer("in").kernel_mask]
    assert len(masks) == len(set(map(id, masks))) == 3
    assert [id(m) for m in masks[:2]] == [id(m) for m in expected]
    assert masks[2] is model.get_layer("last").kernel_mask
    assert find_masks(shared) == [shared.kernel_mask]
    assert find_masks(keras.layers.Dense(3)) == []


def test_an_object_as_initializer_serves_all_layers():
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3)])
    initializer = keras.initializers.RandomUniform(-1, 1, seed=3)
    (mask,) = find_masks(sparsify(model, mask_initializer=initializer, copy=True))
    expected = keras.initializers.RandomUniform(-1, 1, seed=3)((4, 3))
    np.testing.assert_array_equal(mask.variable, expected)
