import keras
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given
from hypothesis import strategies as st
from keras import ops

from scl_keras import FEATURES
from scl_keras.switcher import blocks
from scl_keras.switcher.blocks import as_kernel, as_matrix, fold_blocks, map_blocks
from scl_keras.switcher.features import block_features, surroundings


def features_of(matrix, index=0, sizes=None):
    matrix = ops.convert_to_tensor(matrix)
    around = surroundings(matrix, index, sizes or [matrix.shape[0] * matrix.shape[1]])
    features = ops.convert_to_numpy(block_features(matrix, around))
    return features.reshape(*matrix.shape, len(FEATURES))


def test_features_are_what_their_documentation_says(rng):
    v = rng.normal(size=(5, 7)).astype("float32")
    v[0] = 0
    found = features_of(v, 1, [10, 35, 5])
    rms, size = np.sqrt(np.mean(v**2)), np.abs(v) / np.sqrt(np.mean(v**2))
    log = lambda x: np.log(x + 0.001) / 2  # noqa: E731
    row_rms = np.sqrt(np.mean(size**2, axis=1, keepdims=True))
    column_rms = np.sqrt(np.mean(size**2, axis=0, keepdims=True))
    expected = {
        "value": np.clip(v / rms, -4, 4),
        "magnitude": np.minimum(size, 4),
        "log magnitude": log(size),
        "log row rms": log(row_rms),
        "log row maximum": log(size.max(axis=1, keepdims=True)),
        "log column rms": log(column_rms),
        "log column maximum": log(size.max(axis=0, keepdims=True)),
        "log layer rms": log(rms * np.sqrt(5)),
        "position": 0,
        "log share": np.log(35 / 50) / 2,
    }
    assert tuple(expected) == FEATURES
    for i, value in enumerate(expected.values()):
        np.testing.assert_allclose(
            found[..., i], np.broadcast_to(value, (5, 7)), rtol=1e-4, atol=1e-5
        )


def test_permuting_inputs_and_outputs_permutes_the_features(rng):
    v = rng.normal(size=(6, 4)).astype("float32")
    rows, columns = rng.permutation(6), rng.permutation(4)
    permuted = features_of(v[rows][:, columns])
    np.testing.assert_allclose(
        permuted, features_of(v)[rows][:, columns], rtol=1e-4, atol=1e-6
    )


@pytest.mark.parametrize("value", [0.0, 1e-20, 1.0, 1e15])
@pytest.mark.parametrize("shape", [(4, 3), (1, 1), (4, 1), (1, 3)])
def test_features_of_equal_weights_are_finite_and_moderate(value, shape):
    found = features_of(np.full(shape, value, "float32"))
    assert np.isfinite(found).all()
    assert np.abs(found).max() < 25


@given(
    shape=st.lists(st.integers(1, 4), min_size=2, max_size=5),
    features=st.integers(1, 2),
)
def test_a_kernel_survives_being_a_matrix(shape, features):
    shape, axes = tuple(shape), tuple(range(-features, 0))
    if len(shape) > 3:
        axes = (-2,)  # transposed convolutions
    x = np.arange(np.prod(shape)).reshape(shape)
    matrix = as_matrix(ops.convert_to_tensor(x), axes)
    columns = int(np.prod([shape[axis] for axis in axes]))
    assert tuple(matrix.shape) == (x.size // columns, columns)
    np.testing.assert_array_equal(as_kernel(matrix, shape, axes), x)
    # Each column is one feature's connections.
    of_first = np.moveaxis(x, axes, range(len(axes))).reshape(columns, -1)[0]
    np.testing.assert_array_equal(np.asarray(matrix)[:, 0], of_first)


@pytest.mark.parametrize("shape", [(1, 5), (7, 3), (12, 3), (13, 1), (5, 40)])
@pytest.mark.parametrize("block", [1, 6, 12, 1000])
@pytest.mark.parametrize("mode", ["eager", "graph", "jit"])
def test_blocks_cover_a_matrix_once(shape, block, mode, monkeypatch, rng):
    monkeypatch.setattr(blocks, "CONNECTIONS_A_BLOCK", block)
    x = ops.convert_to_tensor(rng.normal(size=shape).astype("float32"))

    def fold(total, first, rows):
        return total + ops.sum(blocks.block_of(x, first, rows))

    def both():
        copy = map_blocks(lambda *b: blocks.block_of(x, *b), shape)
        return copy, fold_blocks(fold, ops.zeros(()), shape)

    if mode != "eager":
        both = tf.function(both, jit_compile=mode == "jit")
    copy, total = both()
    np.testing.assert_array_equal(copy, x)
    np.testing.assert_allclose(total, np.sum(x), rtol=1e-4, atol=1e-5)
    assert blocks.rows_a_block(shape) * shape[1] <= max(block, shape[1])


def test_half_precision_kernels_are_read_in_float32():
    keras.config.set_dtype_policy("float16")
    try:
        layer = keras.layers.Dense(3)
        layer.build((None, 4))
    finally:
        keras.config.set_dtype_policy("float32")
    matrix = as_matrix(ops.convert_to_tensor(layer.kernel), (-1,))
    assert features_of(blocks.block_of(matrix, 0, 4)).dtype == np.float32
