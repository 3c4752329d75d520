"""What compaction leaves of reshapes, slices, reductions and padding."""

import keras
import numpy as np
import pytest
from cutting import assert_same, cut
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from scl_keras import check_target, compact, compaction_report


def shuffled_by_layers(x, r, h, w, c):
    x = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((h, w, r, r, c))(x))
    return layers.Reshape((h * r, w * r, c))(x)


def shuffled_with_inferred_sizes(x, r, h, w, c):
    x = layers.Permute((1, 3, 2, 4, 5))(layers.Reshape((h, w, r, r, -1))(x))
    return layers.Reshape((h * r, w * r, -1))(x)


def shuffled_by_operations(x, r, h, w, c):
    x = ops.transpose(ops.reshape(x, (-1, h, w, r, r, c)), (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, h * r, w * r, c))


def shuffled_as_in_torch(x, r, h, w, c):
    x = ops.transpose(ops.reshape(x, (-1, h, w, c, r, r)), (0, 1, 4, 2, 5, 3))
    return ops.reshape(x, (-1, h * r, w * r, c))


def shuffled_step_by_step(x, r, h, w, c):
    """Columns before rows."""
    x = ops.reshape(x, (-1, h, w, r, r * c))
    x = ops.reshape(ops.swapaxes(x, 2, 3), (-1, h * r, w, r, c))
    return ops.reshape(x, (-1, h * r, w * r, c))


SHUFFLES = {
    "layers": shuffled_by_layers,
    "inferred": shuffled_with_inferred_sizes,
    "operations": shuffled_by_operations,
    "torch": shuffled_as_in_torch,
    "steps": shuffled_step_by_step,
    "depth_to_space": lambda x, r, h, w, c: ops.depth_to_space(x, r),
}


def shuffling(how, rng, use_bias=False, factor=2, channels=5):
    inputs = keras.Input((3, 2, 3))
    filters = factor**2 * channels
    x = layers.Conv2D(filters, 1, name="a", use_bias=use_bias)(inputs)
    x = layers.BatchNormalization(name="bn", center=use_bias)(x)
    x = SHUFFLES[how](ops.relu(x), factor, 3, 2, channels)
    x = layers.Conv2D(4, 2, name="b", use_bias=use_bias)(x)
    model = keras.Model(inputs, x)
    for w in model.trainable_variables:
        w.assign(rng.normal(size=w.shape))
    return [model, *(model.get_layer(name) for name in "ab")]


def parts_of(how):
    """The four channels that each of five becomes of."""
    ids = np.arange(20)
    return ids.reshape(5, 4) if how == "torch" else ids.reshape(4, 5).T


@pytest.mark.parametrize("how", SHUFFLES)
def test_a_channel_of_shuffled_pixels_goes_with_all_that_it_is_made_of(how, rng):
    model, a, b = shuffling(how, rng)
    parts = parts_of(how)
    cut(a, ..., parts[1])
    cut(a, ..., parts[3, :3])  # one of them is left
    cut(b, slice(None), slice(None), 4)
    small = compact(model)
    assert small.get_layer("a").filters == 12
    assert small.get_layer("b").kernel.shape == (2, 2, 3, 4)
    assert small.count_params() == 3 * 12 + 3 * 12 + 4 * 3 * 4
    assert_same(model, small, rng)


@pytest.mark.parametrize("how", ["layers", "torch", "depth_to_space"])
def test_pixels_that_differ_are_no_constant(how, rng):
    model, a, _ = shuffling(how, rng, use_bias=True)
    parts = parts_of(how)
    cut(a, ..., parts[:2])
    beta = np.ones(20)
    beta[parts[0]] = [1, 2, 3, 4]
    model.get_layer("bn").beta.assign(beta)
    model.get_layer("bn").gamma.assign(np.ones(20))
    a.bias.assign(np.zeros(20))
    small = compact(model)
    assert small.get_layer("a").filters == 16
    assert_same(model, small, rng)


@settings(max_examples=15)
@given(st.integers(0, 2**32 - 1), st.sampled_from(list(SHUFFLES)))
def test_random_masks_of_shuffled_pixels(seed, how):
    rng = np.random.default_rng(seed)
    model, a, b = shuffling(how, rng)
    for layer in (a, b):
        layer.kernel.assign(layer.kernel * (rng.random(layer.kernel.shape) < 0.15))
    made = ops.convert_to_numpy(a.kernel).any((0, 1, 2))
    read = ops.convert_to_numpy(b.kernel).any((0, 1, 3))
    left = int((made[parts_of(how)].any(1) & read).sum())
    if not left:
        with pytest.raises(ValueError, match="No path"):
            compact(model)
        return
    small = compact(model)
    assert small.get_layer("a").filters == 4 * left
    assert small.get_layer("b").kernel.shape[-2] == left
    assert_same(model, small, rng)


@pytest.mark.parametrize("how", SHUFFLES)
@pytest.mark.parametrize("channels", [1, 2, 3])
def test_few_channels_of_large_blocks_compute_the_same(how, channels, rng):
    """Of a class of pixels by rows, say, nothing may go that the blocks need."""
    inputs = keras.Input((3, 2, 3))
    x = layers.Conv2D(9 * channels, 1, name="a", use_bias=False)(inputs)
    x = layers.Flatten()(SHUFFLES[how](x, 3, 3, 2, channels))
    model = keras.Model(inputs, layers.Dense(2)(x))
    a = model.get_layer("a")
    kernel = ops.convert_to_numpy(a.kernel).copy()
    rows = slice(0, 3 * channels)
    for dead in (rows, slice(0, None, 3), slice(2, None, channels)):
        a.kernel.assign(kernel)
        cut(a, ..., dead)
        assert_same(model, compact(model), rng)


def test_blocks_of_another_axis_stay(rng):
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(4, 1, name="a", use_bias=False)(inputs)
    x = ops.space_to_depth(ops.transpose(x, (0, 1, 3, 2)), 2)  # channels are columns
    x = layers.Conv2D(2, 1, name="b")(x)
    model = keras.Model(inputs, x)
    cut(model.get_layer("a"), ..., [0, 2])
    assert_same(model, compact(model), rng)


def test_space_to_depth_has_each_channel_several_times(rng):
    inputs = keras.Input((4, 4, 3))
    x = layers.Conv2D(5, 1, name="a", use_bias=False)(inputs)
    x = layers.Conv2D(2, 1, name="b")(ops.space_to_depth(x, 2))
    model = keras.Model(inputs, x)
    cut(model.get_layer("a"), ..., [0, 3])
    cut(model.get_layer("b"), slice(None), slice(None), [1, 6, 11])  # of four
    small = compact(model)
    assert small.get_layer("a").filters == 3
    assert small.get_layer("b").kernel.shape == (1, 1, 12, 2)
    assert_same(model, small, rng)


@pytest.mark.parametrize("as_layer", [True, False])
def test_units_that_become_an_image_go_channel_by_channel(as_layer, rng):
    inputs = keras.Input((3,))
    x = layers.Dense(3 * 3 * 5, "relu", name="a", use_bias=False)(inputs)
    x = layers.Reshape((3, 3, 5))(x) if as_layer else ops.reshape(x, (-1, 3, 3, 5))
    x = layers.Conv2DTranspose(2, 2, name="b", use_bias=False)(x)
    model = keras.Model(inputs, x)
    kernel = ops.convert_to_numpy(model.get_layer("a").kernel).reshape(3, 3, 3, 5)
    kernel = kernel.copy()
    kernel[..., 1], kernel[:, 0, 0, 2] = 0, 0
    model.get_layer("a").kernel.assign(kernel.reshape(3, 45))
    small = compact(model)
    assert small.count_params() == 3 * 36 + 4 * 4 * 2
    assert_same(model, small, rng)


SLICES = {
    "x[..., :8]": (lambda x: x[..., :8], 8, 5),
    "x[:, :, :, 2:-1]": (lambda x: x[:, :, :, 2:-1], 7, 5),
    "x[:, 1:, None, 1, ..., 4:]": (
        lambda x: ops.squeeze(x[:, 1:, None, 1, ..., 4:], 2),
        6,
        4,
    ),
    "x[:, 0]": (lambda x: x[:, 0], 10, 7),
    "in steps": (lambda x: x[..., ::2], 5, None),
    "backwards": (lambda x: x[..., ::-1], 10, None),
    "one": (lambda x: x[..., 3:4], 1, 1),
}


@pytest.mark.parametrize("how", SLICES)
def test_channels_are_followed_through_slices(how, rng):
    function, size, left = SLICES[how]
    inputs = keras.Input((3, 3, 4))
    x = layers.Conv2D(10, 1, name="a", use_bias=False)(inputs)
    y = layers.Dense(2, name="b")(function(x))
    z = layers.Conv2D(2, 1, name="c")(x)
    ends = [layers.Flatten()(end) for end in (y, z)]
    model = keras.Model(inputs, layers.Concatenate()(ends))
    assert model.get_layer("b").kernel.shape == (size, 2)
    cut(model.get_layer("a"), ..., [1, 6, 7])
    small = compact(model)
    kept = size if left is None else left
    assert small.get_layer("b").kernel.shape == (kept, 2)
    assert small.get_layer("a").filters == (10 if left is None else 7)
    assert_same(model, small, rng)


def test_a_slice_of_nothing_but_dead_channels_is_left_out(rng):
    inputs = keras.Input((4,))
    x = layers.Dense(6, name="a", use_bias=False)(inputs)
    parts = [x[:, :2], layers.Dense(3, name="c")(x[:, 2:])]
    x = layers.Dense(2, name="b")(ops.concatenate(parts, axis=-1))
    model = keras.Model(inputs, x)
    cut(model.get_layer("a"), ..., [0, 1, 4])
    small = compact(model)
    shapes = [tuple(small.get_layer(name).kernel.shape) for name in "acb"]
    assert shapes == [(4, 3), (3, 3), (3, 2)]
    assert_same(model, small, rng)


BETWEEN = {
    "cropping": layers.Cropping2D(1),
    "padding": layers.ZeroPadding2D(2),
    "upsampling": layers.UpSampling2D(2),
    "bilinear": layers.UpSampling2D(2, interpolation="bilinear"),
    "pad": lambda x: ops.pad(x, [(0, 0), (1, 1), (0, 2), (0, 0)]),
    "resize": lambda x: ops.image.resize(x, (8, 8)),
    "mean": lambda x: ops.mean(x, axis=1, keepdims=True),
    "gate": lambda x: x * ops.sigmoid(ops.max(x, axis=(1, 2), keepdims=True)),
    "flip": lambda x: ops.flip(x, axis=(2, 3)),
    "transposed": lambda x: ops.transpose(x, (0, 2, 1, 3)),
    "expanded": lambda x: ops.squeeze(ops.expand_dims(x, 1), 1),
    "moved": lambda x: ops.moveaxis(ops.moveaxis(x, -1, 1), 1, -1),
}


@pytest.mark.parametrize("how", BETWEEN)
def test_what_is_done_along_other_axes_lets_channels_go(how, rng):
    inputs = keras.Input((5, 5, 3))
    x = layers.Conv2D(6, 1, name="a", use_bias=False)(inputs)
    x = layers.Conv2D(2, 1, name="b")(BETWEEN[how](x))
    model = keras.Model(inputs, x)
    cut(model.get_layer("a"), ..., [0, 4])
    cut(model.get_layer("b"), slice(None), slice(None), 1)
    small = compact(model)
    # A flip makes the last but one of the second, which is dead already.
    assert small.get_layer("a").filters == (4 if how == "flip" else 3)
    assert_same(model, small, rng)


def test_a_mean_over_positions_may_leave_out_their_axes(rng):
    inputs = keras.Input((5, 5, 3))
    x = layers.Conv2D(6, 1, name="a", use_bias=False)(inputs)
    x = layers.Dense(2, name="b")(ops.mean(x, axis=(1, 2)))
    model = keras.Model(inputs, x)
    cut(model.get_layer("a"), ..., [0, 4])
    small = compact(model)
    assert small.get_layer("b").kernel.shape == (4, 2)
    assert_same(model, small, rng)


def test_a_reshape_goes_on_inferring_sizes_that_are_open(rng):
    inputs = keras.Input((None, 6))
    x = layers.Dense(8, name="a", use_bias=False)(inputs)
    x = layers.Reshape((-1, 2, 4))(x)
    x = layers.Dense(3, name="b")(x)
    model = keras.Model(inputs, x)
    cut(model.get_layer("a"), ..., [1, 5])
    small = compact(model, input_shapes=(5, 6), keep_open=True)
    assert small.get_layer("a").units == 6
    x = rng.normal(size=(2, 9, 6))
    np.testing.assert_allclose(model(x), small(x), rtol=1e-5, atol=1e-6)


def test_units_of_one_channel_have_no_switch_each():
    inputs = keras.Input((3, 3, 2))
    x = layers.Conv2D(20, 1, name="a")(inputs)
    x = layers.Conv2D(2, 1, name="b")(ops.depth_to_space(x, 2))
    row = check_target(keras.Model(inputs, x), "compact").rows[0]
    assert not row.gains and "several of its own become one channel" in row.reason


def added_to_others(x):
    return layers.Add()([x, layers.Dense(6, name="other")(x)])


def read_in_steps(x):
    return layers.Concatenate()([x, x[..., ::2]])


NOT_FOLLOWED = "where compaction can't follow them"
STAY = {
    f"go through 'it' (Lambda), {NOT_FOLLOWED}": layers.Lambda(
        lambda x: 2 * x, name="it"
    ),
    f"go through 'it' (LayerNormalization), {NOT_FOLLOWED}": (
        layers.LayerNormalization(name="it")
    ),
    f"go through 'get_item' (GetItem), {NOT_FOLLOWED}": read_in_steps,
    "only go together with others, which are needed": added_to_others,
    "are constants that the biases behind them can't take up": lambda x: (
        layers.ZeroPadding2D(1)(ops.exp(x))
    ),
    "are joined by the activation of 'a'": lambda x: x,
}


@pytest.mark.slow
@pytest.mark.parametrize("reason", STAY)
def test_the_report_tells_why_dead_channels_stay(reason, rng):
    keras.utils.clear_session()
    inputs = keras.Input((3, 3, 2))
    activation = "softmax" if "activation" in reason else None
    x = layers.Conv2D(6, 1, activation=activation, name="a", use_bias=False)(inputs)
    x = layers.Conv2D(2, 3, name="b")(STAY[reason](x))
    model = keras.Model(inputs, x)
    if activation:
        cut(model.get_layer("b"), slice(None), slice(None), [1, 3])
    else:
        cut(model.get_layer("a"), ..., [1, 3])
    report = compaction_report(model, compact(model), seconds=0)
    assert report.stays == {"a": f"2 of 6 stay: they {reason}"}
