import keras
import numpy as np
import pytest

from scl_keras import MaskedConv2D, MaskedDense, find_masks
from scl_keras.graph.multiply_accumulates import record_positions
from scl_keras.layers import MaskedEmbedding
from scl_keras.training.prices import connection_prices


def network():
    layers = [keras.Input((7, 7, 2)), MaskedConv2D(3, 2, strides=2), MaskedConv2D(4, 2)]
    return keras.Sequential([*layers, keras.layers.Flatten(), MaskedDense(5)])


def test_connections_cost_the_same():
    variables = [mask.variable for mask in find_masks(network())]
    prices = connection_prices(variables, "connections")
    assert [prices[id(v)] for v in variables] == [1, 1, 1]


def test_flops_cost_what_a_connection_computes_over_the_mean():
    model = network()
    record_positions(model)
    masks = find_masks(model)
    positions = np.array([3 * 3, 2 * 2, 1])  # output pixels of each layer
    sizes = np.array([2 * 2 * 2 * 3, 2 * 2 * 3 * 4, 2 * 2 * 4 * 5])
    assert [mask.size for mask in masks] == list(sizes)
    prices = connection_prices([mask.variable for mask in masks], "macs")
    found = np.array([prices[id(mask.variable)] for mask in masks])
    np.testing.assert_allclose(found, positions * sizes.sum() / (positions @ sizes))
    assert found @ sizes == pytest.approx(sizes.sum())


def test_flops_of_unknown_positions_are_refused_by_name():
    variables = [mask.variable for mask in find_masks(network())]
    with pytest.raises(ValueError, match="built before `compile`.*masked_dense"):
        connection_prices(variables, "macs")
    assert connection_prices([], "macs") == {}


def test_connections_that_are_only_looked_up_cost_no_flops():
    model = keras.Sequential([keras.Input((3,), dtype="int32"), MaskedEmbedding(5, 2)])
    record_positions(model)
    (mask,) = find_masks(model)
    assert connection_prices([mask.variable], "macs") == {id(mask.variable): 0}
    inputs = keras.Input((3,), dtype="int32")
    model = keras.Sequential([inputs, *model.layers, MaskedDense(4)])
    record_positions(model)
    variables = [mask.variable for mask in find_masks(model)]
    prices = connection_prices(variables, "macs")
    # Five rows of two without a price: the others are paid for all.
    expected = [0, (10 + 8) / 8]
    assert [prices[id(v)] for v in variables] == pytest.approx(expected)
