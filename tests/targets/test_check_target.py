import json
import re

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras import (
    Block,
    Channel,
    Connection,
    check_target,
    compact,
    find_masks,
    fit_to_target,
    sparsify,
)
from scl_keras.architectures import build_architecture

INPUTS = Channel((-2,))
NETS = [
    ("mobilenet", (16, 16, 1), {}),
    ("resnet", (16, 16, 3), {"depth": 8}),
    ("vgg", (16, 16, 1), {"width": 0.125}),
    ("lenet_5", (16, 16, 1), {}),
    ("lenet_300_100", (8, 8, 1), {}),
]


def rows_of(model, target):
    return {r.layer.split("/")[-2]: r for r in check_target(model, target).rows}


def sizes(model):
    return {
        layer.name: tuple(layer.kernel.shape)
        for layer in model.layers
        if hasattr(layer, "kernel")
    }


@pytest.mark.parametrize(("name", "shape", "arguments"), NETS, ids=lambda x: str(x))
def test_every_switch_removes_what_it_says(name, shape, arguments, rng):
    """Each mask cut by one channel alone, and then all layers said to shrink do."""
    stock = build_architecture(name, shape, 10, **arguments)
    fill_vectors(stock, rng)
    model = sparsify(stock, runtime="compact", copy=True)
    rows = rows_of(stock, "compact")
    before = sizes(stock)
    masks = find_masks(model)
    assert len(masks) == sum(row.granularity is not None for row in rows.values())
    for mask in masks:
        s = np.ones(mask.variable.shape)
        s.ravel()[rng.integers(s.size)] = -1
        mask.variable.assign(s)
    small = compact(model)
    x = rng.normal(size=(3, *shape)).astype("float32")
    np.testing.assert_allclose(small(x), model(x), atol=1e-4)
    shrunk = {
        k for k, size in sizes(small).items() if np.prod(size) < np.prod(before[k])
    }
    assert shrunk == {key for key, row in rows.items() if row.gains}


def test_a_channel_is_switched_where_it_is_read_or_made():
    inputs = keras.Input((9, 9, 3))
    a = layers.Conv2D(4, 3, name="a")(inputs)
    b = layers.Conv2D(5, 3, name="b")(a)
    c = layers.Conv2D(6, 3, name="c")(b)  # what b makes is read twice
    d = layers.Conv2D(6, 3, name="d")(b)
    e = layers.Conv2D(4, 2, name="e")(layers.Add()([c, d]))
    f = layers.Dense(7, name="f")(layers.Flatten()(e))
    model = keras.Model(inputs, layers.Dense(2, name="g")(f))
    found = {key: row.granularity for key, row in rows_of(model, "compact").items()}
    expected = {"a": Channel(), "b": Channel(), "e": Channel(), "g": INPUTS}
    assert found == {**dict.fromkeys("cdf"), **expected}
    gains = {key for key, row in rows_of(model, "compact").items() if row.gains}
    assert gains == set("abcdefg")
    reasons = {key: row.reason for key, row in rows_of(model, "compact").items()}
    assert "are added to those of 'd'" in reasons["c"]
    assert reasons["f"] == "its own are switched by 'g'"


def gated(gate, normalized=False):
    """A convolution whose channels are multiplied by what a gate makes of them."""
    inputs = keras.Input((8, 8, 3))
    a = layers.Conv2D(6, 3, activation=None if normalized else "relu", name="a")(inputs)
    if normalized:
        a = layers.ReLU()(layers.BatchNormalization()(a))
    x = layers.Multiply()([a, gate(a)])
    x = layers.Conv2D(5, 3, activation="relu", name="b")(x)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, layers.Dense(4, name="out")(x))


def fill_vectors(model, rng):
    """Has biases and statistics be none of those that new layers have."""
    for layer in model.layers:
        for w in layer.weights:
            if len(w.shape) == 1:
                w.assign(0.5 + rng.random(w.shape))


def without_first_channels(stock, rng):
    """Compacted, each mask cut by its first channel; it must compute the same."""
    model = sparsify(stock, runtime="compact", copy=True)
    for mask in find_masks(model):
        s = np.ones(mask.variable.shape)
        s.ravel()[0] = -1
        mask.variable.assign(s)
    small = compact(model)
    x = rng.normal(size=(3, 8, 8, 3)).astype("float32")
    np.testing.assert_allclose(small(x), model(x), atol=1e-4)
    return small


def squeeze_and_excite(x):
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(2, 1, activation="relu", name="squeeze")(x)
    return layers.Conv2D(6, 1, activation="sigmoid", name="excite")(x)


@pytest.mark.parametrize("normalized", [False, True])
def test_one_factor_switches_the_channels_of_a_product(normalized, rng):
    stock = gated(squeeze_and_excite, normalized)
    fill_vectors(stock, rng)
    rows = rows_of(stock, "compact")
    assert rows["a"].granularity == Channel()
    assert "its own go with those of 'a'" in rows["excite"].reason
    assert all(row.gains for row in rows.values())
    assert sizes(without_first_channels(stock, rng)) == {
        "a": (3, 3, 3, 5),
        "squeeze": (1, 1, 5, 1),
        "excite": (1, 1, 1, 5),
        "b": (3, 3, 5, 4),
        "out": (4, 4),
    }


def test_a_depthwise_convolution_switches_what_stands_before_a_gate(rng):
    """The block of EfficientNet: normalization stands between maker and product."""

    def normalized(x):
        return layers.Activation("swish")(layers.BatchNormalization()(x))

    inputs = keras.Input((8, 8, 3))
    x = normalized(layers.Conv2D(6, 1, use_bias=False, name="expand")(inputs))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False, name="depthwise")(x)
    x = normalized(x)
    x = layers.Multiply()([x, squeeze_and_excite(x)])
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(4, 1, name="project")(x))
    stock = keras.Model(inputs, x)
    fill_vectors(stock, rng)
    rows = rows_of(stock, "compact")
    assert rows["depthwise"].granularity == Channel()
    assert rows["expand"].reason == "its own are switched by 'depthwise'"
    assert {key for key, row in rows.items() if row.granularity is not None} == {
        *("depthwise", "excite")
    }
    assert sizes(without_first_channels(stock, rng)) == {
        "expand": (1, 1, 3, 5),
        "depthwise": (3, 3, 5, 1),
        "squeeze": (1, 1, 5, 1),
        "excite": (1, 1, 1, 5),
        "project": (1, 1, 5, 4),
    }


def test_a_factor_that_leads_elsewhere_is_not_switched_by_the_other():
    inputs = keras.Input((8,))
    a = layers.Dense(6, "relu", name="a")(inputs)
    b = layers.Dense(6, "relu", name="b")(inputs)
    c = layers.Dense(5, name="c")(layers.Multiply()([a, b]))
    d = layers.Dense(5, name="d")(layers.Concatenate()([a, b]))
    model = keras.Model(inputs, layers.Add()([c, d]))
    reasons = {key: row.reason for key, row in rows_of(model, "compact").items()}
    assert "multiplied by those of 'b': go together only" in reasons["a"]
    assert "multiplied by those of 'a': go together only" in reasons["b"]


def test_what_makes_no_zero_of_zero_stands_between_a_switch_and_a_product():
    inputs = keras.Input((8,))
    a = layers.Dense(6, "sigmoid", name="a")(inputs)
    b = layers.Dense(6, name="b")(a)
    x = layers.Multiply()([a, layers.Activation("sigmoid")(b)])
    model = keras.Model(inputs, layers.Dense(2, name="c")(x))
    rows = rows_of(model, "compact")
    assert "multiplied by those of 'b'" in rows["a"].reason
    assert "multiplied by those of 'a'" in rows["b"].reason


def test_dense_layers_get_blocks_and_convolutions_channels():
    model = build_architecture("lenet_5", (20, 20, 1), 10)
    rows = rows_of(model, "tflite-dense")
    assert rows["dense_1"].granularity == rows["logits"].granularity == Block(4, -2)
    assert rows["conv_1"].granularity == rows["conv_2"].granularity == Channel()
    inputs = keras.Input((6,))
    x = layers.Dense(3, name="short")(inputs)
    rows = rows_of(keras.Model(inputs, layers.Dense(2, name="few")(x)), "tflite-dense")
    assert rows["short"].gains and "last block has 2" in rows["short"].reason
    assert not rows["few"].gains and "3 inputs" in rows["few"].reason
    found = rows_of(model, "size")
    assert {row.granularity for row in found.values()} == {Connection()}


def xnnpack_net(**changes):
    """A small network of XNNPACK's shape, with one thing changed."""
    size, channels = changes.get("size", 15), changes.get("channels", 3)
    x = inputs = keras.Input((size, size, channels))
    padding = changes.get("padding", "valid")
    if padding == "valid":
        x = layers.ZeroPadding2D(1)(x)
    x = layers.Conv2D(4, 3, changes.get("strides", 2), padding, name="stem")(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(
        changes.get("window", 3), padding="same", name="depthwise"
    )(x)
    y = layers.Conv2D(4, 1, activation=changes.get("activation"), name="one")(x)
    if "between" in changes:
        y = changes["between"](y)
    x = layers.Add()([x, y]) if changes.get("residual") else y
    x = layers.Conv2D(6, 1, name="two")(x)
    if changes.get("pools", True):
        x = layers.GlobalAveragePooling2D()(x)
    else:
        x = layers.Flatten(name="flat")(x)
    return keras.Model(inputs, layers.Dense(2, name="logits")(x))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, None),
        ({"residual": True}, None),
        ({"activation": "relu"}, None),
        ({"window": 5}, None),
        ({"between": layers.Dropout(0.5)}, None),
        ({"strides": 1}, "'stem' .*only a 3x3 stem with stride 2 on 3 channels"),
        ({"channels": 1}, "'stem' .*only a 3x3 stem with stride 2 on 3 channels"),
        ({"padding": "same"}, "the stem needs ZeroPadding2D.*fit_to_target.* rewrites"),
        ({"padding": "same", "size": 16}, "even, such as 16, on one side more"),
        ({"window": 7}, "'depthwise'.*3x3 or 5x5"),
        ({"between": layers.MaxPooling2D(2)}, "max_pooling.*no kernel of it"),
        ({"pools": False}, "'flat' .*no kernel of it with channels first"),
        ({"activation": "softmax"}, "activation has no kernel"),
    ],
    ids=str,
)
def test_1x1_convolutions_gain_in_networks_of_xnnpacks_shape(changes, reason):
    rows = rows_of(xnnpack_net(**changes), "xnnpack")
    for key in ("one", "two"):
        assert rows[key].gains == (reason is None), rows[key]
        expected = None if reason else Block(4, axis=-1)
        assert rows[key].granularity == expected
        assert reason is None or re.search(reason, rows[key].reason), rows[key].reason
    for key in ("stem", "depthwise", "logits"):
        assert not rows[key].gains and rows[key].granularity is None


def test_our_mobilenet_has_xnnpacks_shape():
    rows = rows_of(build_architecture("mobilenet", (28, 28, 1), 10), "xnnpack")
    assert all(row.gains == ("pointwise" in key) for key, row in rows.items())


def test_what_is_only_form_is_rewritten_and_gains_then():
    model = xnnpack_net(padding="same")
    assert not rows_of(model, "xnnpack")["one"].gains
    fitted = fit_to_target(model, "xnnpack")
    assert rows_of(fitted, "xnnpack")["one"].gains


def test_it_is_told_as_a_table_and_as_data(capsys):
    model = xnnpack_net()
    check = check_target(model, "xnnpack")
    data = json.loads(json.dumps(check.as_dict()))
    assert (
        data["gains"] and data["rows"][2]["granularity"] == "block of 4 along axis -1"
    )
    assert [row["granularity"] for row in data["rows"][:2]] == [None, None]
    sparse = sparsify(model, runtime="xnnpack", copy=True)
    assert str(check) in capsys.readouterr().out
    assert "four outputs of one input" in str(check)
    assert [mask.granularity for mask in find_masks(sparse)] == [Block(4, axis=-1)] * 2
    masked = check_target(sparse, "xnnpack")
    assert [r.reason for r in masked.rows] == [r.reason for r in check.rows]


def test_wrong_arguments_are_refused():
    model = xnnpack_net()
    for function in (check_target, fit_to_target):
        with pytest.raises(ValueError, match="must be one of.*Received: runtime='arm'"):
            function(model, "arm")
        with pytest.raises(ValueError, match="needs a built functional"):
            function(keras.Sequential([layers.Dense(2)]), "size")
    with pytest.raises(ValueError, match="either `granularity` or `runtime`"):
        sparsify(model, runtime="size", granularity="channel", copy=True)
    with pytest.raises(ValueError, match="No layer of 'functional.*gains on 'xnnpack'"):
        sparsify(xnnpack_net(strides=1), runtime="xnnpack")
    inputs = keras.Input((None, None, 3))
    model = keras.Model(inputs, layers.Conv2D(2, 3, 2, "same", name="conv")(inputs))
    with pytest.raises(ValueError, match="inputs of known sizes.*Received: inputs"):
        check_target(model, "compact")
    with pytest.raises(ValueError, match="images of known sizes.*layer 'conv'"):
        fit_to_target(model, "xnnpack")


@pytest.mark.parametrize("count", [3, 4, 5])
def test_each_of_a_chain_in_front_of_flatten_has_a_switch(count, rng):
    """The last has to switch its own, so that those before it make room."""
    stack = [layers.Conv2D(3 + n, 2, name=f"c{n}") for n in range(count)]
    stack += [layers.Flatten(), layers.Dense(6, name="d"), layers.Dense(2, name="e")]
    model = keras.Sequential([keras.Input((8, 8, 2)), *stack])
    rows = rows_of(model, "compact")
    assert sum(row.granularity is not None for row in rows.values()) == count + 1
    assert not any("no mask left" in row.reason for row in rows.values())
    before = sizes(model)
    masked = sparsify(model, runtime="compact", verbose=0)
    for mask in find_masks(masked):
        s = np.ones(mask.variable.shape)
        s.ravel()[0] = -1
        mask.variable.assign(s)
    after = sizes(compact(masked))
    made = [name for name in before if name != "e"]
    assert all(after[name][-1] == before[name][-1] - 1 for name in made)


def test_a_model_with_a_batch_of_its_own_is_checked_on_it():
    inputs = keras.Input((6, 8), batch_size=4)
    x = keras.ops.reshape(layers.Dense(8, name="a")(inputs), (4, 48))
    model = keras.Model(inputs, layers.Dense(4, name="b")(x))
    assert rows_of(model, "compact")["a"].gains
    a = model.get_layer("a")
    a.kernel.assign(a.kernel * np.arange(8))
    assert sizes(compact(model)) == {"a": (8, 7), "b": (42, 4)}


def test_an_activation_with_weights_keeps_channels_and_other_layers_do_not():
    def gains(activation):
        hidden = layers.Dense(6, activation=activation, name="a")
        stack = [keras.Input((8,)), hidden, layers.Dense(3, name="b")]
        return rows_of(keras.Sequential(stack), "compact")["a"]

    assert "activation of 'a'" in gains(layers.PReLU()).reason
    assert gains(layers.LeakyReLU()).gains
