"""Networks that users bring along, sparsified without a word from them."""

import zipfile

import keras
import numpy as np
import pytest
from keras import applications, layers, ops

from scl_keras import export_tflite, find_masks, sparsify, strip_masks, summary
from scl_keras.conversion.sparsify import unmasked_layers
from scl_keras.graph.kernels import prunable_kernels


def application(name, **kwargs):
    network = getattr(applications, name)
    return network(input_shape=(32, 32, 3), weights=None, classes=5, **kwargs)


def transformer(steps=6):
    """Token and position embeddings, one encoder block, a classifier."""
    tokens = keras.Input((steps,), dtype="int32")
    places = layers.Embedding(steps, 8)(ops.arange(steps))
    x = layers.Embedding(11, 8)(tokens) + places
    for _ in range(2):
        attended = layers.MultiHeadAttention(2, 4)(x, x, use_causal_mask=True)
        x = layers.LayerNormalization()(x + layers.Dropout(0.1)(attended))
        fed = layers.Dense(8)(layers.Dense(16, activation="gelu")(x))
        x = layers.LayerNormalization()(x + fed)
    x = layers.Dense(5)(layers.GlobalAveragePooling1D()(x))
    return keras.Model(tokens, x, name="transformer")


def sequence_to_one(steps=6):
    """Every recurrent layer and wrapper."""
    tokens = keras.Input((steps,), dtype="int32")
    x = layers.Embedding(11, 4, mask_zero=True)(tokens)
    x = layers.Bidirectional(layers.LSTM(3, return_sequences=True))(x)
    x = layers.TimeDistributed(layers.Dense(4, activation="relu"))(x)
    cells = layers.StackedRNNCells([layers.GRUCell(3), layers.SimpleRNNCell(4)])
    x = layers.RNN(cells, return_sequences=True)(x)
    x = layers.SimpleRNN(4)(layers.GRU(4, return_sequences=True)(x))
    return keras.Model(tokens, layers.Dense(5)(x), name="sequence_to_one")


def data(model, rng):
    shape = (3, *model.input.shape[1:])
    if model.input.dtype == "int32":
        return rng.integers(0, 11, shape).astype("int32")
    return rng.normal(size=shape).astype("float32")


def check(stock, rng, path, eager):
    x = data(stock, rng)
    sparse = sparsify(stock, copy=True)
    np.testing.assert_array_equal(sparse(x), stock(x))
    assert unmasked_layers(sparse) == []
    assert all(kernel.mask is not None for kernel in prunable_kernels(sparse))
    tables = [summary(net, None) for net in (stock, sparse)]
    assert tables[0].macs == tables[1].macs > 0
    labels = [row.layer for row in tables[1].rows]
    assert len(set(labels)) == len(labels) == len(find_masks(sparse))

    for mask in find_masks(sparse):
        mask.assign(rng.random(mask.variable.shape) < 0.5)
    before = [mask.variable.numpy() for mask in find_masks(sparse)]
    sparse.compile("sgd", "mse", connection_cost=0.1, cost="macs", run_eagerly=eager)
    loss = sparse.train_on_batch(x, np.zeros((3, 5), "float32"))
    assert np.all(np.isfinite(loss))
    moved = [
        np.any(mask.variable.numpy() != old)
        for mask, old in zip(find_masks(sparse), before, strict=True)
    ]
    assert all(moved)

    stripped = strip_masks(sparse, copy=True)
    assert [type(y) for y in stripped.layers] == [type(y) for y in stock.layers]
    np.testing.assert_array_equal(stripped(x), sparse(x))
    stripped.save(path)
    with zipfile.ZipFile(path) as file:
        assert b"scl_keras" not in file.read("config.json")
    np.testing.assert_array_equal(keras.models.load_model(path)(x), sparse(x))
    return sparse


@pytest.mark.slow
def test_mobilenet_v2(rng, tmp_path):
    check(application("MobileNetV2", alpha=0.35), rng, tmp_path / "m.keras", True)


@pytest.mark.slow
@pytest.mark.parametrize("make", [transformer, sequence_to_one])
def test_sequences(make, rng, tmp_path):
    check(make(), rng, tmp_path / "m.keras", True)


@pytest.mark.slow
def test_a_transformer_is_exported(rng, tmp_path):
    sparse = sparsify(transformer())
    for mask in find_masks(sparse):
        mask.assign(rng.random(mask.variable.shape) < 0.2)
    report = export_tflite(
        sparse, tmp_path / "m.tflite", samples=data(sparse, rng), latency_seconds=0
    )
    assert report.bytes_written <= report.bytes_dense


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "MobileNetV2",
        "MobileNetV3Small",
        "MobileNetV3Large",
        "ResNet50",
        "EfficientNetB0",
        "DenseNet121",
        "ConvNeXtTiny",
    ],
)
def test_applications(name, rng, tmp_path):
    check(application(name), rng, tmp_path / "m.keras", False)
