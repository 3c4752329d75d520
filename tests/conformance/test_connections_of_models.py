"""What of a model of others is effective, and what it costs."""

import re

import numpy as np
import pytest
from lives import cut_at_random, sizes_of_inputs
from marks import names
from models import CASES

from scl_keras import ConnectionGraph, find_masks, sparsify, summary


@pytest.fixture(scope="module", params=names())
def masked(request):
    """A `Case`, its model, and the shapes of its inputs."""
    case = CASES[request.param]
    x = case.inputs(np.random.default_rng(0))
    model = sparsify(case.build(), verbose=0)
    return case, model, sizes_of_inputs(model, x)


@pytest.fixture(scope="module")
def graph(masked):
    _, model, shapes = masked
    return ConnectionGraph(model, shapes)


def test_all_of_it_is_followed(graph):
    assert graph.unknown == ()
    for mask in graph.effective():
        # Of a window larger than the image, the rim touches nothing.
        assert np.all(mask.any(axis=(0, 1)) if mask.ndim == 4 else mask)


def test_a_cut_in_the_middle_is_told(masked, graph):
    case, _, _ = masked
    kept = [np.ones(kernel.shape, bool) for kernel in graph.kernels]
    cut = [re.search(case.cut, kernel.label) for kernel in graph.kernels]
    assert sum(map(bool, cut)) == 1
    kept[list(map(bool, cut)).index(True)][:] = False
    for kernel, mask in zip(graph.kernels, graph.effective(kept), strict=True):
        dead = re.search(case.dead, kernel.label)
        assert np.all(mask != bool(dead)), kernel.label


def test_what_it_computes_does_not_hang_on_what_is_not_effective(masked, graph):
    """Kernels change where connections aren't effective, and outputs don't."""
    case, model, _ = masked
    before = [mask.variable.numpy() for mask in find_masks(model)]
    cut_at_random(model, 0.1)
    x = case.inputs(np.random.default_rng(0))
    try:
        effective = graph.effective()
        kept = [kernel.kept() for kernel in graph.kernels]
        assert sum(map(np.sum, effective)) < sum(map(np.sum, kept))
        expected = model(x, training=False).numpy()
        for kernel, mask in zip(graph.kernels, effective, strict=True):
            switches = np.where(mask, 1.0, -1.0).astype("float32")
            if mask.any():  # otherwise a mask would keep its last connection
                kernel.mask.variable.assign(switches)
        found = model(x, training=False).numpy()
    finally:
        for mask, value in zip(find_masks(model), before, strict=True):
            mask.variable.assign(value)
    # Batches of biases alone aren't cut, so that constants stay constants.
    np.testing.assert_allclose(
        found - found.mean(axis=0), expected - expected.mean(axis=0), atol=1e-5
    )


def test_it_is_summed_up(masked):
    _, model, shapes = masked
    table = summary(model, None, input_shapes=shapes)
    assert table.fully_connected == () and table.without_effective is None
    assert table.macs > 0 and table.sparse_macs == table.macs
    assert table.connections == sum(m.size for m in find_masks(model))
    whole = ConnectionGraph(model, shapes).effective()
    assert table.effective == sum(map(np.sum, whole))
