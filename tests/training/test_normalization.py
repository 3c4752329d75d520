import keras
import numpy as np
import pytest
from keras import ops

from scl_keras import GradientNormalization, Mask

SHAPES = [(6, 4), (3, 3, 2, 5), (3, 3, 4, 2)]
FEATURES = [(-1,), (-1,), (-2, -1)]  # of a dense, a convolution, a depthwise kernel


def _masks():
    masks = []
    for shape, axes in zip(SHAPES, FEATURES, strict=True):
        masks.append(Mask(feature_axes=axes))
        masks[-1].build(shape)
    return masks


def _normalized(normalization, gradients, masks, *arguments):
    squares = normalization.mean_squares(gradients, masks)
    scales = normalization.scales(squares, masks, *arguments)
    return [g * scale for g, scale in zip(gradients, scales, strict=True)]


def _states(normalization, masks):
    shapes = normalization.state_shapes(masks)
    return {k: keras.Variable(np.zeros(s, "float32")) for k, s in shapes.items()}


def _gradients(seed, scale=1.0):
    rng = np.random.default_rng(seed)
    return [
        (scale * 10.0**i * rng.normal(size=shape)).astype("float32")
        for i, shape in enumerate(SHAPES)
    ]


def _groups(per):
    """One number an entry: which entries are normalized together."""
    ones = [np.zeros(shape, int) for shape in SHAPES]
    if per == "layer":
        return [one + i for i, one in enumerate(ones)]
    if per == "network":
        return ones
    dense, conv, depthwise = ones
    depthwise = depthwise + 200 + np.arange(8).reshape(4, 2)
    return [dense + np.arange(4), conv + 100 + np.arange(5), depthwise]


def _by_hand(steps, per, memory):
    """Loops over groups of scalars, in float64."""
    groups = np.concatenate([g.ravel() for g in _groups(per)])
    mean, normalized = {}, None
    for t, gradients in enumerate(steps, start=1):
        flat = np.concatenate([g.ravel() for g in gradients]).astype("float64")
        normalized = np.zeros_like(flat)
        for group in np.unique(groups):
            chosen = groups == group
            now = float(np.mean(flat[chosen] ** 2))
            share = max(1 - memory, 1 / t)
            mean[group] = (1 - share) * mean.get(group, 0.0) + share * now
            if mean[group] > 0:
                normalized[chosen] = flat[chosen] / np.sqrt(mean[group])
    return normalized


@pytest.mark.parametrize("memory", [0, 0.5, 0.9, 1])
@pytest.mark.parametrize("per", ["network", "layer", "feature"])
def test_it_is_what_loops_over_numbers_give(per, memory):
    normalization, masks = GradientNormalization(per, memory), _masks()
    states = _states(normalization, masks)
    steps = [_gradients(seed, 3.0**-seed) for seed in range(5)]
    for t, gradients in enumerate(steps):
        out = _normalized(
            normalization, [ops.array(g) for g in gradients], masks, states, t
        )
    flat = np.concatenate([np.ravel(g) for g in out])
    np.testing.assert_allclose(flat, _by_hand(steps, per, memory), rtol=2e-4)


@pytest.mark.parametrize("per", ["network", "layer", "feature"])
def test_the_scale_of_the_loss_does_not_matter(per):
    results = []
    for scale in (1e-6, 1.0, 1e6):
        normalization, masks = GradientNormalization(per, 0.9), _masks()
        states = _states(normalization, masks)
        for t in range(3):
            gradients = [ops.array(g) for g in _gradients(t, scale)]
            out = _normalized(normalization, gradients, masks, states, t)
        results.append(np.concatenate([np.ravel(g) for g in out]))
    np.testing.assert_allclose(results[0], results[1], rtol=1e-3)
    np.testing.assert_allclose(results[2], results[1], rtol=1e-3)


@pytest.mark.parametrize("memory", [0, 0.9, 1])
@pytest.mark.parametrize("per", ["network", "layer", "feature"])
def test_zero_gradients_stay_zero_whole_or_in_part(per, memory):
    normalization, masks = GradientNormalization(per, memory), _masks()
    states = _states(normalization, masks)
    for t in range(3):
        zeros = [ops.zeros(shape) for shape in SHAPES]
        for out in _normalized(normalization, zeros, masks, states, t):
            np.testing.assert_array_equal(out, 0)
    gradients = _gradients(0)
    gradients[0][:, 1] = 0  # one dead feature
    gradients[1][:] = 0  # a dead layer
    out = _normalized(
        normalization, [ops.array(g) for g in gradients], masks, states, 3
    )
    assert all(np.isfinite(g).all() for g in out)
    np.testing.assert_array_equal(out[0][:, 1], 0)
    np.testing.assert_array_equal(out[1], 0)
    assert np.abs(out[0]).max() > 0


def test_without_normalization_the_gradients_are_untouched():
    normalization, masks = GradientNormalization(None), _masks()
    assert normalization.state_shapes(masks) == {}
    gradients = [ops.array(g) for g in _gradients(0)]
    for before, after in zip(
        gradients, _normalized(normalization, gradients, masks, {}, 0), strict=True
    ):
        np.testing.assert_array_equal(before, after)


@pytest.mark.parametrize(
    "arguments", [("batch",), (1,), (True,), ("layer", -0.1), ("layer", 1.1)]
)
def test_bad_arguments_are_refused_and_repeated(arguments):
    with pytest.raises(ValueError, match="Received"):
        GradientNormalization(*arguments)


def test_memory_may_not_be_nan():
    with pytest.raises(ValueError, match="memory"):
        GradientNormalization("layer", float("nan"))


def test_it_survives_serialization():
    before = GradientNormalization("feature", 0.25)
    config = keras.saving.serialize_keras_object(before)
    after = GradientNormalization.get(config)
    assert (after.per, after.memory) == ("feature", 0.25)
    assert GradientNormalization.get(before) is before
    assert GradientNormalization.get(None).per is None
