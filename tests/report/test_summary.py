import json

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers, ops

from scl_keras import MaskedDense, SCLModel, sparsify, strip_masks, summary
from scl_keras.masks.constraint import MaskConstraint


def convolutional():
    """Hand counts: conv 3·3·1·2 = 18 at 4·4 pixels, dense 32·5 = 160 once."""
    stock = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(2, 3, name="c"),
            layers.Flatten(),
            layers.Dense(5, name="d"),
        ],
        name="net",
    )
    model = sparsify(stock, copy=True)
    kept = np.zeros((3, 3, 1, 2))
    kept[:2, 0, 0, 1] = 1  # 2 kept, filter 0 is dead
    model.get_layer("c").kernel_mask.assign(kept)
    kept = np.zeros((32, 5))
    kept[3] = [1, 1, 1, 0, 0]
    kept[4, 0] = 1  # 4 kept, units 3 and 4 are dead
    model.get_layer("d").kernel_mask.assign(kept)
    return model


def test_numbers_equal_hand_counts():
    table = summary(convolutional(), None)
    conv, dense = table.rows
    assert (conv.layer_type, conv.shape) == ("MaskedConv2D", (3, 3, 1, 2))
    assert conv.layer.endswith("c/kernel")
    assert (conv.kept, conv.connections, conv.sparsity) == (2, 18, 1 - 2 / 18)
    assert (conv.features, conv.dead_features) == (2, 1)
    assert (conv.macs, conv.sparse_macs) == (18 * 16, 2 * 16)
    assert (dense.kept, dense.connections) == (4, 160)
    # Row 4 of the dense kernel reads filter 0, which is dead.
    assert (conv.effective, conv.dead, conv.effective_sparsity) == (2, 0, 1 - 2 / 18)
    assert (dense.effective, dense.dead, dense.effective_sparsity) == (
        3,
        1,
        1 - 3 / 160,
    )
    assert (table.effective, table.dead) == (5, 1)
    assert table.effective_compression == 178 / 5
    assert table.effective_sparsity == 1 - 5 / 178
    assert (table.fully_connected, table.without_effective) == ((), None)
    assert (dense.features, dense.dead_features) == (5, 2)
    assert (dense.macs, dense.sparse_macs) == (160, 4)
    assert (table.kept, table.connections) == (6, 178)
    assert table.density == 6 / 178
    assert table.sparsity == 1 - 6 / 178
    assert table.compression == 178 / 6
    assert (table.macs, table.sparse_macs) == (448, 36)
    assert table.unmasked == ()


def test_the_dictionary_is_json_and_holds_every_number():
    table = summary(convolutional(), None)
    content = json.loads(json.dumps(table.as_dict()))
    assert content == {
        "name": "net",
        "rows": content["rows"],
        "unmasked": [],
        "fully_connected": [],
        "without_effective": None,
        "effective": 5,
        "dead": 1,
        "effective_sparsity": table.effective_sparsity,
        "effective_compression": 178 / 5,
        "kept": 6,
        "connections": 178,
        "sparsity": table.sparsity,
        "compression": table.compression,
        "macs": 448,
        "sparse_macs": 36,
        "weights": 178 + 2 + 5,
        "masked_sparsity": 1 - 6 / 178,
        "model_sparsity": 172 / 185,
    }
    assert [r["kept"] for r in content["rows"]] == [2, 4]
    assert content["rows"][0]["shape"] == [3, 3, 1, 2]
    assert content["rows"][0]["sparsity"] == 1 - 2 / 18


def test_the_table_shows_rows_and_totals(capsys):
    printed = []
    table = summary(convolutional(), printed.append)
    assert printed == [str(table)]
    lines = str(table).splitlines()
    (total,) = [line for line in lines if "Total" in line]
    for text in ("29.7x", "6 / 178", "96.63%", "97.19%", "1", "3 / 7", "36 / 448"):
        assert text in total
    (conv,) = [line for line in lines if "c/kernel (MaskedConv2D)" in line]
    for text in ("2 / 18", "88.89%", "1 / 2", "32 / 288"):
        assert text in conv
    assert "down to its last" not in str(table)
    assert "35.6x" in str(table)
    assert max(map(len, lines)) <= 120
    both = "96.63% of the 178 connections with a mask cut (2 of 2 kernels), 92.97% of"
    assert f"{both} the model's 185 weights cut" in lines
    summary(convolutional())
    assert "96.63%" in capsys.readouterr().out


def test_a_stripped_model_and_a_loaded_one_have_the_same_summary(tmp_path):
    model = convolutional()
    model.save(tmp_path / "m.keras")
    expected = summary(model, None).as_dict()
    for row in expected["rows"]:
        row["layer_type"] = row["layer_type"].removeprefix("Masked")
        row["masked"] = False
    expected["masked_sparsity"] = None
    for net in (model, keras.models.load_model(tmp_path / "m.keras")):
        got = summary(strip_masks(net, copy=True), None).as_dict()
        labels = [row.pop("layer") for row in got["rows"]]
        assert [label.split("/")[-2:] for label in labels] == [
            ["c", "kernel"],
            ["d", "kernel"],
        ]
        assert got["rows"] == [
            {k: v for k, v in row.items() if k != "layer"} for row in expected["rows"]
        ]
        assert {k: v for k, v in got.items() if k != "rows"} == {
            k: v for k, v in expected.items() if k != "rows"
        }


def test_plain_models_are_read_by_their_zeros():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.layers[0].kernel.assign([[1, 0, 0], [0, 0, 0], [0, 0, 2], [3, 0, 0]])
    (row,) = summary(model, None).rows
    assert (row.kept, row.dead_features, row.down_to_last) == (3, 1, False)


def test_shared_layers_stand_once_and_cost_every_call():
    dense = MaskedDense(4)
    inputs = keras.Input((4,))
    table = summary(SCLModel(inputs, dense(dense(inputs))), None)
    assert len(table.rows) == 1
    assert (table.connections, table.macs) == (16, 32)


def test_unknown_sizes_and_nothing_kept():
    inputs = keras.Input((None, None, 1))
    model = sparsify(keras.Model(inputs, layers.Conv2D(2, 3)(inputs)))
    model.layers[-1].kernel_mask.assign(np.zeros((3, 3, 1, 2)))
    table = summary(model, None)
    assert table.macs is table.sparse_macs is None
    assert table.compression == float("inf")
    assert (table.sparsity, table.rows[0].dead_features) == (1, 2)
    assert "?" in str(table)
    assert table.effective is table.dead is table.effective_compression is None
    assert "No effective connections: Model" in str(table)


def test_a_down_to_last_layer_is_marked():
    model = convolutional()
    mask = model.get_layer("d").kernel_mask
    s = np.full((32, 5), -0.5, "float32")
    s[1, 1] = -0.1
    mask.variable.assign(MaskConstraint(1)(keras.ops.array(s)))
    table = summary(model, None)
    assert [row.down_to_last for row in table.rows] == [False, True]
    assert table.rows[1].kept == 1
    assert "(MaskedDense) *" in str(table)
    assert "* down to its last connection" in str(table)


def test_layers_that_can_not_be_masked_are_listed():
    inputs = keras.Input((5,), dtype="int32")
    x = layers.Reshape((5, 1, 4))(layers.Embedding(7, 4, name="words")(inputs))
    x = layers.LSTM(3)(layers.ConvLSTM1D(2, 1, name="m")(x))
    table = summary(keras.Model(inputs, layers.Dense(2)(x)), None)
    (name,) = table.unmasked
    assert name.endswith("(ConvLSTMCell)")
    assert f"Not maskable: {name}" in str(table)


class Net(keras.Model):
    def __init__(self, between):
        super().__init__()
        self.first, self.last = layers.Dense(3), layers.Dense(2)
        self.between = between

    def call(self, x):
        return self.last(self.between(self.first(x)))


def test_subclassed_models_are_followed():
    model = Net(ops.tanh)
    model(np.zeros((1, 4)))
    model.first.kernel.assign([[1.0, 1, 0]] * 4)
    table = summary(model, None)
    assert (table.kept, table.connections) == (8 + 6, 18)
    assert (table.effective, table.dead, table.macs) == (8 + 4, 2, 18)
    assert table.without_effective is None and table.fully_connected == ()


def test_models_that_can_not_be_followed_get_the_direct_figures_and_say_so():
    model = Net(lambda x: tf.tanh(x))
    model(np.zeros((1, 4)))
    model.first.kernel.assign(np.diag([1.0] * 4)[:, :3])
    table = summary(model, None)
    assert (table.kept, table.connections, table.rows[0].effective) == (9, 18, None)
    assert table.as_dict()["effective"] is table.effective_sparsity is None
    assert "No effective connections:" in str(table)
    assert "can't be followed" in str(table)


def test_operations_taken_as_fully_connected_are_named():
    inputs = keras.Input((4,))
    x = layers.Lambda(lambda x: tf.tanh(x), name="mine")(layers.Dense(3)(inputs))
    table = summary(keras.Model(inputs, layers.Dense(2)(x)), None)
    assert table.fully_connected == ("mine (Lambda)",)
    assert "Taken as fully connected: mine (Lambda)" in str(table)


def test_dead_features_are_those_without_an_effective_connection():
    model = keras.Sequential([keras.Input((3,)), layers.Dense(4), layers.Dense(2)])
    first, last = (layer.kernel for layer in model.layers)
    first.assign(np.ones((3, 4)) * [0, 1, 1, 1])
    last.assign([[1, 1], [0, 0], [0, 0], [1, 0]])  # unit 0 is fed by nothing
    rows = summary(model, None).rows
    assert [row.dead_features for row in rows] == [3, 1]
    assert [row.dead for row in rows] == [6, 2]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras.Sequential([layers.Dense(3)]), "built.*Received"),
        (lambda: layers.Dense(3), "built.*Received"),
        (
            lambda: keras.Sequential([keras.Input((3,)), layers.ReLU(name="r")]),
            "no layer that could be masked.*r",
        ),
    ],
)
def test_a_model_without_a_table_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        summary(make())
