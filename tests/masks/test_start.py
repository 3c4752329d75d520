import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import Block, find_masks, sparsify
from scl_keras.masks import Mask, start_from_magnitudes


def _model(**arguments):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((8, 8, 3)),
            layers.Conv2D(4, 3),
            layers.Flatten(),
            layers.Dense(6),
            layers.Dense(2),
        ]
    )
    return sparsify(model, verbose=0, **arguments)


def _starts(model):
    return [mask.values() for mask in find_masks(model)]


def test_they_are_what_loops_over_features_give():
    model = _model()
    kernels = [x.kernel.numpy() for x in model.layers if hasattr(x, "kernel")]
    inputs = [
        [kernel[..., j].size for j in range(kernel.shape[-1])] for kernel in kernels
    ]
    mean = np.mean([n for counts in inputs for n in counts])
    start_from_magnitudes(find_masks(model), 0.02)
    for kernel, counts, s in zip(kernels, inputs, _starts(model), strict=True):
        typical = np.sqrt(sum(v**2 for v in kernel.ravel()) / kernel.size)
        expected = [
            0.02 * abs(kernel[..., j]) / typical * np.sqrt(mean / n)
            for j, n in enumerate(counts)
        ]
        expected = np.clip(np.stack(expected, -1), 0.0002, 1)
        np.testing.assert_allclose(s, expected, rtol=1e-5)


def test_their_root_mean_square_is_the_height():
    model = _model()
    start_from_magnitudes(find_masks(model))
    squares = np.concatenate([s.ravel() for s in _starts(model)]) ** 2
    np.testing.assert_allclose(np.sqrt(squares.mean()), 0.03, rtol=1e-3)


def test_the_scale_of_a_layer_does_not_matter():
    model, other = _model(), _model()
    other.layers[0].kernel.assign(100 * other.layers[0].kernel)
    for x in (model, other):
        start_from_magnitudes(find_masks(x))
    for a, b in zip(_starts(model), _starts(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_nothing_is_cut_or_restored():
    model = _model()
    dense = model.layers[2]
    dense.kernel.assign(np.where(np.arange(6) < 3, 0, dense.kernel))
    mask = dense.kernel_mask
    mask.variable.assign(np.where(np.arange(6) == 5, -0.2, mask.variable))
    before = [s > 0 for s in _starts(model)]
    start_from_magnitudes(find_masks(model))
    for kept, s in zip(before, _starts(model), strict=True):
        np.testing.assert_array_equal(s > 0, kept)
    np.testing.assert_allclose(mask.values()[:, :3], 0.0003, rtol=1e-5)
    np.testing.assert_allclose(mask.values()[:, 5], -0.2)


def test_weights_that_are_all_zero_leave_masks_as_they_are():
    model = _model()
    model.layers[2].kernel.assign(np.zeros(model.layers[2].kernel.shape))
    before = model.layers[2].kernel_mask.values()
    start_from_magnitudes(find_masks(model))
    np.testing.assert_array_equal(model.layers[2].kernel_mask.values(), before)


@pytest.mark.parametrize("granularity", ["channel", Block(4, axis=-2)])
def test_what_is_switched_together_starts_from_its_mean_square(granularity):
    model, single = _model(granularity=granularity), _model()
    for x in (model, single):
        start_from_magnitudes(find_masks(x))
    kernel = single.layers[2].kernel.numpy()
    mask = model.layers[2].kernel_mask
    if granularity == "channel":
        squares = (kernel**2).mean(0)
    else:
        squares = [(kernel[i : i + 4] ** 2).mean(0) for i in range(0, len(kernel), 4)]
    ratio = mask.values().ravel() ** 2 / np.ravel(squares)
    np.testing.assert_allclose(ratio, ratio[0], rtol=1e-4)


@pytest.mark.parametrize("height", [0, -0.1, 1.5, float("nan")])
def test_a_height_out_of_bounds_is_refused(height):
    with pytest.raises(ValueError, match="Received: height="):
        start_from_magnitudes(find_masks(_model()), height)


def test_a_mask_without_a_layer_is_refused():
    mask = Mask()
    mask.build((3, 2))
    with pytest.raises(ValueError, match="belongs to none"):
        start_from_magnitudes([mask])
