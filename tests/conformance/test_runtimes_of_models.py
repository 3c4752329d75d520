"""Networks of convolutions of others get smaller, and run elsewhere."""

import numpy as np
import pytest
from lives import cut_at_random, outputs, sizes_of_inputs
from marks import names
from models import CASES

from scl_keras import (
    compact,
    compaction_report,
    export_tflite,
    find_masks,
    sparsify,
    stripped,
)


@pytest.fixture(scope="module", params=names(lambda case: case.convolutional))
def cut(request):
    """A model, some of whose channels are cut, and inputs."""
    case = CASES[request.param]
    model = sparsify(case.build(), granularity="channel", verbose=0)
    *_, classes = find_masks(model)
    every = classes.variable.numpy()
    cut_at_random(model, 0.8)
    classes.variable.assign(every)
    return model, case.inputs(np.random.default_rng(0))


def test_it_is_compacted(cut):
    model, x = cut
    shapes = sizes_of_inputs(model, x)
    small = compact(model, shapes)
    expected = outputs(model, x)
    atol = 1e-5 * np.abs(expected).max()
    np.testing.assert_allclose(outputs(small, x), expected, rtol=1e-5, atol=atol)
    with stripped(model) as stock:
        size = stock.count_params()
    assert small.count_params() < 0.9 * size
    assert str(compaction_report(model, small))


@pytest.mark.slow
def test_it_is_exported(cut, tmp_path):
    model, x = cut
    report = export_tflite(model, tmp_path / "m.tflite", samples=x, latency_seconds=0)
    assert report.bytes_written < report.bytes_dense  # mostly the graph's, so small
    assert len(find_masks(model)) > 0
