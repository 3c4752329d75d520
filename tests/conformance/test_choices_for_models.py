"""Models of others are masked again, in part, and by blocks and channels."""

import numpy as np
import pytest
from lives import cut_at_random, outputs
from marks import names
from models import CASES

from scl_keras import Block, find_masks, sparsify, strip_masks
from scl_keras.graph.walking import walk_inside
from scl_keras.layers.twins import has_kernels


@pytest.fixture(params=names())
def stock(request):
    """A model and inputs."""
    case = CASES[request.param]
    return case.build(), case.inputs(np.random.default_rng(0))


@pytest.fixture(params=names(lambda case: case.convolutional))
def convolutions(request):
    case = CASES[request.param]
    return case.build(), case.inputs(np.random.default_rng(0))


def check_is_masked_and_stripped(stock, x, seed=0, **arguments):
    kind, before = type(stock), outputs(stock, x)
    model = sparsify(stock, verbose=0, **arguments)
    np.testing.assert_array_equal(outputs(model, x), before)
    cut_at_random(model, seed=seed)
    cut = outputs(model, x)
    assert np.any(cut != before)
    assert strip_masks(model) is stock
    assert type(stock) is kind and find_masks(stock) == []
    np.testing.assert_array_equal(outputs(stock, x), cut)


def test_once_more_and_twice_in_a_row(stock):
    model, x = stock
    for seed in range(2):
        check_is_masked_and_stripped(model, x, seed)
    sparsify(model, verbose=0)
    masks, kind = find_masks(model), type(model)
    sparsify(model, verbose=0)
    assert type(model) is kind
    assert all(a is b for a, b in zip(find_masks(model), masks, strict=True))
    strip_masks(model)


def test_in_part_and_then_the_rest(stock):
    model, x = stock
    before = outputs(model, x)
    holders = [layer for layer in walk_inside(model) if has_kernels(layer)]
    some = holders[::2]
    sparsify(model, layers=some, verbose=0)
    first = find_masks(model)
    cut_at_random(model)
    cut = outputs(model, x)
    sparsify(model, granularity=Block(2), verbose=0)
    every = find_masks(model)
    assert 0 < len(first) < len(every)
    assert {id(mask) for mask in first} < {id(mask) for mask in every}
    np.testing.assert_array_equal(outputs(model, x), cut)
    assert np.any(cut != before)
    strip_masks(model)
    np.testing.assert_array_equal(outputs(model, x), cut)


def test_by_blocks(stock):
    check_is_masked_and_stripped(*stock, granularity=Block(4))


def test_by_channels(convolutions):
    model, x = convolutions
    check_is_masked_and_stripped(model, x, granularity="channel")
