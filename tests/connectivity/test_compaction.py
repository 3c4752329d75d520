import json

import keras
import numpy as np
import pytest
from cutting import cut
from hypothesis import given, settings
from hypothesis import strategies as st
from keras import layers, ops

from scl_keras import (
    ConnectionGraph,
    compact,
    compaction_report,
    find_masks,
    sparsify,
    strip_masks,
)
from scl_keras.architectures.resnet import resnet


def randomize(model, rng, density=1.0, keep=()):
    """Random weights, with whole rows and columns of zeros and others between."""
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            randomize(layer, rng, density)
            continue
        for w in layer.weights:
            values = rng.normal(size=w.shape)
            if "variance" in w.path:
                values = 1 + rng.random(w.shape)
            elif len(w.shape) > 1 and layer.name not in keep:
                values *= rng.random(w.shape) < density
                values *= rng.random(w.shape[-1]) < 0.3 + 0.7 * density
                values *= rng.random((w.shape[-2], 1)) < 0.3 + 0.7 * density
            elif len(w.shape) == 1:
                values *= rng.random(w.shape) < 0.5
            w.assign(values)


def effective(model):
    return sum(int(mask.sum()) for mask in ConnectionGraph(model).effective())


def assert_same(model, small, rng, samples=3):
    def sample(x):
        shape = (samples, *x.shape[1:])
        if x.dtype == "float32":
            return rng.normal(size=shape).astype("float32")
        return rng.integers(0, 4, shape)

    inputs = keras.tree.map_structure(sample, small.input)
    pairs = zip(*(keras.tree.flatten(m(inputs)) for m in (model, small)), strict=True)
    for a, b in pairs:
        scale = np.max(np.abs(a)) or 1
        np.testing.assert_allclose(a / scale, b / scale, rtol=1e-4, atol=2e-5)


def kernel_shapes(model):
    return {
        layer.name: tuple(w.shape)
        for layer in model.layers
        for w in layer.weights[:1]
        if len(w.shape) > 1
    }


def test_dead_units_go_and_constant_ones_into_the_next_biases(rng):
    model = keras.Sequential(
        [
            keras.Input((4,)),
            layers.Dense(5, "relu", name="a"),
            layers.Dense(6, "sigmoid", name="b", use_bias=False),
            layers.Dense(2, name="c", use_bias=False),
        ],
        name="net",
    )
    randomize(model, rng)
    a, b, c = model.layers
    a.bias.assign([0, 0, 2, 0, 0])
    cut(a, slice(None), slice(1, 3))  # unit 1 is zero, unit 2 is the constant 2
    cut(b, 3)  # unit 3 is read by nothing
    cut(c, 4)
    small = compact(model)
    assert kernel_shapes(small) == {"a": (4, 2), "b": (2, 5), "c": (5, 2)}
    assert small.get_layer("b").use_bias and not small.get_layer("c").use_bias
    expected = 2 * b.kernel.numpy()[2, [0, 1, 2, 3, 5]]
    np.testing.assert_allclose(small.get_layer("b").bias, expected, rtol=1e-6)
    assert_same(model, small, rng)
    assert (small.name, type(small)) == (
        "net",
        keras.Model(small.input, small.output).__class__,
    )


@pytest.mark.parametrize(
    ("padding", "size", "goes"),
    [("valid", 3, True), ("same", 3, False), ("same", 1, True)],
)
def test_constants_go_only_where_no_padding_shows_them(rng, padding, size, goes):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", name="a")(inputs)
    x = layers.ReLU()(layers.BatchNormalization(name="bn")(x))
    x = layers.Conv2D(3, size, padding=padding, name="b")(x)
    model = keras.Model(inputs, layers.Dense(2, name="c")(layers.Flatten()(x)))
    randomize(model, rng)
    cut(model.get_layer("a"), ..., 1)
    model.get_layer("bn").beta.assign([1, 5, 1, 1])
    small = compact(model)
    channels = 3 if goes else 4
    assert small.get_layer("a").filters == channels
    assert small.get_layer("bn").gamma.shape == (channels,)
    assert small.get_layer("b").kernel.shape == (size, size, channels, 3)
    assert_same(model, small, rng)


def test_a_zero_goes_in_front_of_padding_too(rng):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(4, 3, padding="same", name="a")(inputs)
    x = layers.Conv2D(3, 3, padding="same", name="b")(layers.ReLU()(x))
    model = keras.Model(inputs, layers.GlobalMaxPooling2D()(x))
    randomize(model, rng)
    cut(model.get_layer("a"), ..., 1)
    model.get_layer("a").bias.assign([1, -5, 1, 1])  # zero behind the ReLU
    small = compact(model)
    assert kernel_shapes(small) == {"a": (3, 3, 2, 3), "b": (3, 3, 3, 3)}
    assert_same(model, small, rng)


def test_channels_of_a_sum_go_together(rng):
    inputs = keras.Input((4,))
    a = layers.Dense(4, name="a")(inputs)
    b = layers.Dense(4, name="b")(inputs)
    model = keras.Model(inputs, layers.Dense(2, name="c")(layers.Add()([a, b])))
    randomize(model, rng)
    cut(model.get_layer("a"), slice(None), slice(0, 2))
    cut(model.get_layer("b"), slice(None), slice(1, 3))
    small = compact(model)
    assert kernel_shapes(small) == {"a": (4, 3), "b": (4, 3), "c": (3, 2)}
    assert_same(model, small, rng)


def test_a_dead_branch_is_dropped_from_sums_and_concatenations(rng):
    inputs = keras.Input((4,))
    trunk = layers.Dense(5, name="trunk")(inputs)
    dead = layers.Dense(5, name="dead", use_bias=False)(
        layers.LayerNormalization(name="norm")(trunk)
    )
    other = layers.Dense(3, name="other", use_bias=False)(trunk)
    x = layers.Concatenate(name="join")([layers.Add(name="add")([trunk, dead]), other])
    model = keras.Model(inputs, layers.Dense(2, name="end")(x))
    randomize(model, rng)
    cut(model.get_layer("dead"), slice(None))
    cut(model.get_layer("other"), slice(None))
    cut(model.get_layer("end"), 1)
    small = compact(model)
    assert kernel_shapes(small) == {"trunk": (4, 4), "end": (4, 2)}
    assert [layer.name for layer in small.layers[1:]] == ["trunk", "end"]
    assert_same(model, small, rng)


def test_an_output_keeps_its_name_and_shape(rng):
    inputs = keras.Input((4,), name="x")
    dead = layers.Dense(4, use_bias=False, name="dead")(inputs)
    model = keras.Model({"x": inputs}, {"y": layers.Add(name="sum")([inputs, dead])})
    cut(model.get_layer("dead"), slice(None))
    small = compact(model)
    assert small.output_names == model.output_names
    assert small.count_params() == 0
    x = rng.normal(size=(2, 4))
    np.testing.assert_allclose(small({"x": x})["y"], x, rtol=1e-6)


def test_flattening_pooling_depthwise_and_separable_layers(rng):
    inputs = keras.Input((6, 6, 2))
    x = layers.Conv2D(5, 3, name="a", use_bias=False)(inputs)
    x = layers.DepthwiseConv2D(2, depth_multiplier=2, name="b")(x)
    x = layers.MaxPooling2D(2, padding="same")(layers.ZeroPadding2D(1)(x))
    x = layers.SeparableConv2D(4, 2, name="c")(x)
    x = layers.PReLU(name="slope")(x)
    x = layers.Reshape((-1,))(layers.Permute((3, 1, 2))(x))
    model = keras.Model(inputs, layers.Dense(2, name="d")(x))
    randomize(model, rng)
    cut(model.get_layer("a"), ..., 1)
    model.get_layer("b").bias.assign(np.zeros(10))
    kernel = model.get_layer("d").kernel
    values = kernel.numpy().reshape(4, -1, 2)
    values[2] = 0
    kernel.assign(values.reshape(kernel.shape))
    small = compact(model)
    assert kernel_shapes(small)["a"] == (3, 3, 2, 4)
    assert kernel_shapes(small)["b"] == (2, 2, 4, 2)
    assert kernel_shapes(small)["c"] == (2, 2, 8, 1)
    assert small.get_layer("c").pointwise_kernel.shape == (1, 1, 8, 3)
    assert small.get_layer("slope").alpha.shape[-1] == 3
    assert small.get_layer("d").kernel.shape[0] == kernel.shape[0] * 3 // 4
    assert_same(model, small, rng)


def test_gates_shared_layers_and_nested_models(rng):
    inner = keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, "relu", name="a"),
            layers.Dense(6, name="b"),
        ]
    )
    inputs = keras.Input((6,))
    x = inner(inner(inputs))
    gate = layers.Dense(6, "sigmoid", name="a")(inputs)
    model = keras.Model(
        inputs, layers.Dense(2, name="end")(layers.Multiply()([x, gate]))
    )
    randomize(model, rng)
    cut(inner.layers[0], slice(None), 1)
    inner.layers[0].bias.assign(np.zeros(5))
    cut(model.get_layer("end"), 2)  # the inner output 2 still feeds the second use
    small = compact(model)
    assert sorted(kernel_shapes(small).values()) == [(4, 6), (6, 2), (6, 4), (6, 6)]
    assert_same(model, small, rng)
    cut(inner.layers[0], 2)
    small = compact(model)
    assert sorted(kernel_shapes(small).values()) == [(4, 6), (6, 2), (6, 4), (6, 6)]
    assert_same(model, small, rng)


@pytest.mark.parametrize("as_layer", [True, False])
def test_a_gate_of_a_dead_channel_goes_with_it(rng, as_layer):
    """Squeeze and excite: each gate hangs on all channels, and so on those alive."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 3, name="a", activation="relu")(inputs)
    gate = layers.Reshape((1, 1, 8))(layers.GlobalAveragePooling2D()(x))
    gate = layers.Conv2D(4, 1, activation="relu", name="squeeze")(gate)
    gate = layers.Conv2D(8, 1, activation="sigmoid", name="excite")(gate)
    x = layers.Multiply()([x, gate]) if as_layer else x * gate
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3, name="b")(x))
    model = keras.Model(inputs, layers.Dense(2, name="end")(x))
    randomize(model, rng)
    for name in ("a", "squeeze", "excite", "b"):  # no bias is zero by chance
        bias = model.get_layer(name).bias
        bias.assign(rng.uniform(0.1, 1, bias.shape))
    cut(model.get_layer("a"), ..., slice(0, 3))
    model.get_layer("a").bias.assign([0, -1, 2, 1, 1, 1, 1, 1])  # the third is 2
    cut(model.get_layer("b"), slice(None), slice(None), 7)
    small = compact(model)
    # The third is a constant behind its gate: no constant. The last still feeds gates.
    shapes = {"a": (3, 3, 3, 6), "squeeze": (1, 1, 6, 4), "excite": (1, 1, 4, 6)}
    assert kernel_shapes(small) == {**shapes, "b": (3, 3, 6, 5), "end": (5, 2)}
    assert_same(model, small, rng)


@pytest.mark.parametrize("as_layer", [True, False])
@pytest.mark.parametrize("sections", [2, [3, 5]])
def test_channels_are_followed_through_parts(rng, as_layer, sections):
    """A block of YOLOv8, C2f: split, go on with a part, and join all there is."""
    inputs = keras.Input((6, 6, 3))
    x = layers.Conv2D(8, 1, name="a", use_bias=False)(inputs)
    parts = ops.split(ops.relu(x), sections, axis=-1)
    parts.append(layers.Conv2D(4, 3, padding="same", name="b")(parts[-1]))
    x = layers.Concatenate()(parts) if as_layer else ops.concatenate(parts, axis=-1)
    x = layers.Conv2D(6, 1, name="c")(x)
    model = keras.Model(inputs, layers.GlobalAveragePooling2D()(x))
    randomize(model, rng)
    a, c = model.get_layer("a"), model.get_layer("c")
    cut(a, ..., [1, 4, 5])
    cut(c, slice(None), slice(None), 9)  # the second of b's
    small = compact(model)
    shapes = kernel_shapes(small)
    assert (shapes["a"], shapes["c"]) == ((1, 1, 3, 5), (1, 1, 8, 6))
    assert shapes["b"] == (3, 3, 2, 3)
    assert_same(model, small, rng)
    cut(a, ..., slice(0, 4))  # all of the first part, and of another one
    small = compact(model)
    assert kernel_shapes(small)["a"] == (1, 1, 3, 2)
    assert_same(model, small, rng)


def test_what_can_not_shrink_stays(rng):
    inputs = keras.Input((4, 4, 4))
    x = layers.Conv2D(4, 3, name="a")(inputs)
    x = layers.Conv2D(4, 1, groups=2, name="b")(x)
    x = layers.Lambda(lambda x: x * 2)(layers.LayerNormalization()(x))
    x = layers.EinsumDense("abcd,ce->abde", (2, 4, 3), name="e")(x)
    x = layers.Dense(4, name="f")(layers.Permute((1, 3, 2))(x))
    x = ops.mean(layers.Softmax()(layers.Dense(4, name="c")(x)), axis=(1, 2))
    model = keras.Model(inputs, layers.Dense(2, name="d")(x))
    randomize(model, rng)
    for name in "abc":
        cut(model.get_layer(name), ..., 1)
    small = compact(model)
    assert kernel_shapes(small) == kernel_shapes(model)
    assert_same(model, small, rng)


def test_embeddings_einsum_and_transposed_convolutions_shrink(rng):
    inputs = keras.Input((4,), dtype="int32")
    x = layers.Embedding(6, 5, name="words")(inputs)
    x = layers.EinsumDense("abc,cd->abd", (None, 4), name="einsum")(x)
    x = layers.Conv1DTranspose(3, 2, 2, name="up")(x)
    x = layers.Conv1D(3, 3, padding="causal", name="conv")(ops.relu(x) * 2.0)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(2, name="end")(x))
    randomize(model, rng)
    words = model.get_layer("words").embeddings
    words.assign(words.numpy() * [1, 1, 0, 1, 1])
    cut(model.get_layer("einsum"), slice(None), 1)
    cut(model.get_layer("conv"), slice(None), 2)
    cut(model.get_layer("end"), 0)
    small = compact(model)
    assert small.get_layer("words").embeddings.shape == (6, 4)
    assert small.get_layer("einsum").kernel.shape == (4, 3)
    assert small.get_layer("up").kernel.shape == (2, 2, 3)
    assert small.get_layer("conv").kernel.shape == (3, 2, 2)
    assert_same(model, small, rng)


def test_a_softmax_keeps_its_units_and_not_its_inputs(rng):
    inputs = keras.Input((4,))
    x = layers.Dense(5, "relu", name="a")(inputs)
    x = layers.Dense(5, "relu", name="b")(x)
    x = layers.Dense(4, "softmax", name="c")(x)
    model = keras.Model(inputs, layers.Dense(2, name="d")(x))
    randomize(model, rng)
    cut(model.get_layer("b"), slice(None), slice(1, 3))
    cut(model.get_layer("c"), slice(None), 0)
    cut(model.get_layer("b"), 0)
    small = compact(model)
    shapes = {"a": (4, 4), "b": (4, 3), "c": (3, 4), "d": (4, 2)}
    assert kernel_shapes(small) == shapes
    assert_same(model, small, rng)


def test_attention_recurrent_layers_and_masks_stay_whole(rng):
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Embedding(6, 4, mask_zero=True, name="words")(inputs)
    x = layers.MultiHeadAttention(2, 3)(x, x)
    x = layers.Bidirectional(layers.LSTM(3))(x)
    x = layers.Dense(5, "relu", name="a")(x)
    model = keras.Model(inputs, layers.Dense(2, name="b")(x))
    randomize(model, rng)
    cut(model.get_layer("b"), slice(0, 2))
    small = compact(model)
    assert kernel_shapes(small)["a"] == (6, 3)
    assert kernel_shapes(small)["words"] == (6, 4)
    assert_same(model, small, rng)


def random_model(seed):
    """A graph of everything that hands channels on, with many of them dead."""
    rng = np.random.default_rng(seed)

    def pick(*choices):
        return choices[rng.integers(len(choices))]

    first = pick("same", "valid")
    inputs = [keras.Input((7, 7, 2)) for _ in range(pick(1, 2))]
    ends = [layers.Conv2D(6, 3, padding=first)(x) for x in inputs]
    shared = layers.Conv2D(6, 3, padding="same", name="shared")
    inner = keras.Sequential(
        [
            keras.Input((None, None, 6)),
            layers.Conv2D(5, 1),
            layers.ReLU(),
            layers.Conv2D(6, 1),
        ]
    )
    makers = [
        lambda x: layers.Conv2D(6, 3, padding="same", use_bias=pick(True, False))(x),
        lambda x: layers.BatchNormalization()(x),
        lambda x: layers.Activation(pick("relu", "tanh", "sigmoid"))(x),
        lambda x: layers.DepthwiseConv2D(3, padding="same")(x),
        lambda x: layers.SeparableConv2D(6, 1)(x),
        lambda x: layers.Conv2D(6, 3, padding="same", groups=pick(2, 3))(x),
        lambda x: layers.MaxPooling2D(2)(ops.depth_to_space(layers.Dense(24)(x), 2)),
        lambda x: layers.Conv2D(9, 1)(x)[..., 2:-1],
        lambda x: layers.Conv2DTranspose(6, 3, padding="same")(x),
        lambda x: layers.Dense(6)(x),
        lambda x: layers.PReLU(shared_axes=(1, 2))(x),
        lambda x: pick(shared, inner)(x),
        lambda x: layers.Multiply()(
            [
                x,
                layers.Dense(6, "sigmoid")(
                    layers.GlobalAveragePooling2D(keepdims=True)(x)
                ),
            ]
        ),
        lambda x: layers.Conv2D(6, 1)(layers.Concatenate()([x, pick(*ends)])),
        lambda x: pick(layers.Add, layers.Subtract, layers.Maximum)()([x, pick(*ends)]),
    ]
    for _ in range(rng.integers(2, 9)):
        ends.append(pick(*makers)(pick(*ends[-3:])))
    outputs = []
    for x in ends[-2:]:
        x = layers.MaxPooling2D(2)(layers.ZeroPadding2D(1)(x))
        x = pick(layers.Flatten, layers.GlobalAveragePooling2D)()(x)
        outputs.append(layers.Dense(3)(layers.Dense(6, "relu")(x)))
    model = keras.Model(inputs, outputs)
    randomize(model, rng, density=pick(0.4, 0.7))
    return model, rng


def gives_a_constant(model, rng):
    inputs = [
        [rng.normal(size=(3, *x.shape[1:])) for x in model.inputs] for _ in range(2)
    ]
    for a, b in zip(*(keras.tree.flatten(model(x)) for x in inputs), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def check_random_model(seed):
    model, rng = random_model(seed)
    before = effective(model)
    try:
        small = compact(model)
    except ValueError as error:
        assert "No path" in str(error)
        gives_a_constant(model, rng)
        return
    assert_same(model, small, rng)
    # A gate of what is zero is followed like a term of a sum, and goes.
    gated = any(isinstance(layer, layers.Multiply) for layer in model.layers)
    assert effective(small) <= before if gated else effective(small) == before
    assert compact(small).count_params() == small.count_params() < model.count_params()


@settings(max_examples=10)
@given(st.integers(0, 2**32 - 1))
def test_random_graphs_compute_the_same_and_lose_nothing_effective(seed):
    check_random_model(seed)


@pytest.mark.slow
@settings(max_examples=300)
@given(st.integers(0, 2**32 - 1))
def test_many_random_graphs(seed):
    check_random_model(seed)


def test_a_residual_network_after_masks(rng, tmp_path):
    model = sparsify(resnet((16, 16, 3), 10, depth=14))
    for mask in find_masks(model):
        mask.assign(rng.random(mask.variable.shape) < 0.004)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.beta.assign(rng.normal(size=layer.beta.shape) - 1)
    small = compact(model)
    assert small.count_params() < 0.7 * strip_masks(model, copy=True).count_params()
    assert_same(model, small, rng)
    small.save(tmp_path / "small.keras")
    loaded = keras.models.load_model(tmp_path / "small.keras")
    assert_same(small, loaded, rng)
    assert not find_masks(small)
    assert all(type(layer).__module__.startswith("keras.") for layer in small.layers)


def test_the_model_is_left_alone_and_the_report_tells_what_changed(rng):
    model = sparsify(
        keras.Sequential([keras.Input((8,)), layers.Dense(64, "relu"), layers.Dense(4)])
    )
    kept = np.ones((8, 64))
    kept[:, 8:] = 0
    model.layers[0].kernel_mask.assign(kept)
    before = model.get_weights()
    small = compact(model)
    report = compaction_report(model, small, seconds=0.1)
    for a, b in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (report.parameters_before, report.parameters_after) == (836, 108)
    assert (report.macs_before, report.macs_after) == (8 * 64 + 64 * 4, 8 * 8 + 8 * 4)
    assert report.ms_before > 0 and report.ms_after > 0
    assert report.difference < 1e-5
    assert json.loads(json.dumps(report.as_dict()))["speedup"] == report.speedup
    assert "836 -> 108" in str(report)
    with pytest.raises(ValueError, match="Received"):
        compaction_report(model, keras.Sequential([keras.Input((8,)), layers.Dense(3)]))


def test_open_sizes_are_given_and_then_fixed(rng):
    inputs = keras.Input((None, None, 2))
    x = layers.Conv2D(4, 3, name="a")(inputs)
    model = keras.Model(inputs, layers.Conv2D(2, 3)(x))
    randomize(model, rng)
    cut(model.get_layer("a"), ..., 0)
    with pytest.raises(ValueError, match="input_shapes"):
        compact(model)
    small = compact(model, input_shapes=(6, 6, 2))
    assert small.input_shape == (None, 6, 6, 2)
    assert small.get_layer("a").filters == 3
    assert_same(model, small, rng)


def test_models_without_a_path_or_a_graph_are_refused():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    cut(model.layers[0], slice(None))
    with pytest.raises(ValueError, match="No path is left"):
        compact(model)
    for other in (keras.Sequential([layers.Dense(2)]), layers.Dense(2)):
        with pytest.raises(ValueError, match="`compact` needs.*Received"):
            compact(other)
