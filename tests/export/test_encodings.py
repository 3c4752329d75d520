"""Every encoding of ours, on hundreds of random files: none computes something else."""

import functools
import itertools

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from flat_files import (
    convolution_answer,
    convolution_file,
    dense_answer,
    dense_file,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from scl_keras.export.encodings import ENCODINGS
from scl_keras.export.precisions import store_as_int8
from scl_keras.export.weights import read_weights

RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
ZEROS = (0.0, 0.3, 0.6, 0.8, 0.9, 0.95, 0.97, 0.98, 0.99, 1.0)


def run(file, x, resolver, threads=1):
    """Runs the bytes of a file, apart from the code under test."""
    interpreter = Interpreter(
        model_content=file, experimental_op_resolver_type=resolver, num_threads=threads
    )
    position = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(position, x.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(position, x)
    interpreter.invoke()
    return interpreter.get_tensor(interpreter.get_output_details()[0]["index"])


def sparse_kernel(rng, shape, zeros, block):
    """Random weights, of which a share of the blocks along the last axis is zero."""
    kernel = rng.normal(size=shape).astype(np.float32)
    blocks = (*shape[:-1], -(-shape[-1] // block))
    cut = np.repeat(rng.random(blocks) < zeros, block, axis=-1)[..., : shape[-1]]
    kernel[cut] = 0
    return kernel


def assert_answers(file, x, answer, kernels, biases):
    """Compares with `answer` in float64, up to the rounding of the terms it adds."""
    expected = answer(kernels, biases, x)
    terms = answer([np.abs(k) for k in kernels], [np.abs(b) for b in biases], np.abs(x))
    largest = 3e-6 * terms.max()
    for resolver, threads in itertools.product(RESOLVERS, (1, 2, 4)):
        for batch in (x[:1], x):
            found = run(file, batch, resolver, threads)
            assert np.abs(found - expected[: len(batch)]).max() <= largest


def sorted_kernels(file):
    kernels = []
    for weights in read_weights(file):
        values = weights.real_values() + 0
        if values.ndim == 2:  # columns that fill up a block
            used = np.flatnonzero(values.any(axis=0))
            values = values[:, : used[-1] + 1 if used.size else 0]
        kernels.append((len(values), values.tobytes()))
    return sorted(kernels)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@settings(max_examples=60)
@given(
    sizes=st.lists(st.integers(1, 90), min_size=2, max_size=4),
    zeros=st.lists(st.sampled_from(ZEROS), min_size=3, max_size=3),
    block=st.sampled_from([1, 4]),
    seed=st.integers(0, 999),
)
def test_dense_layers(encoding, sizes, zeros, block, seed):
    rng = np.random.default_rng(seed)
    pairs = zip(sizes[1:], sizes, zeros, strict=False)
    kernels = [sparse_kernel(rng, (out, n), share, block) for out, n, share in pairs]
    biases = [rng.normal(size=len(k)).astype(np.float32) for k in kernels]
    file = dense_file(kernels, biases)
    x = rng.normal(size=(5, sizes[0])).astype(np.float32)

    encoded = ENCODINGS[encoding](file)

    assert sorted_kernels(encoded) == sorted_kernels(file)
    assert_answers(encoded, x, dense_answer, kernels, biases)

    # The same kernels as int8: each weight off by half a step at most.
    stored = store_as_int8(file)
    steps = [np.abs(k).max(axis=1, keepdims=True, initial=0) / 127 for k in kernels]
    rounded = [
        np.round(k / np.where(step, step, 1)) * step
        for k, step in zip(kernels, steps, strict=True)
    ]
    encoded = ENCODINGS[encoding](stored)
    assert sorted_kernels(encoded) == sorted_kernels(stored)
    assert_answers(encoded, x, dense_answer, rounded, biases)


@pytest.mark.parametrize("encoding", sorted(ENCODINGS))
@settings(max_examples=25)
@given(
    depthwise=st.booleans(),
    channels=st.integers(1, 70),
    filters=st.integers(1, 40),
    window=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    zeros=st.sampled_from(ZEROS),
    seed=st.integers(0, 999),
)
def test_convolutions(encoding, depthwise, channels, filters, window, zeros, seed):
    rng = np.random.default_rng(seed)
    shape = (1 if depthwise else filters, *window, channels)
    kernel = sparse_kernel(rng, shape, zeros, 1)
    bias = rng.normal(size=channels if depthwise else filters).astype(np.float32)
    file = convolution_file(kernel, bias, 4, depthwise)
    x = rng.normal(size=(3, 4, 4, channels)).astype(np.float32)
    encoded = ENCODINGS[encoding](file)
    assert sorted_kernels(encoded) == sorted_kernels(file)
    answer = functools.partial(convolution_answer, depthwise=depthwise)
    assert_answers(encoded, x, answer, [kernel], [bias])

    encoded = ENCODINGS[encoding](store_as_int8(file))
    axis = (1, 2) if depthwise else (1, 2, 3)
    step = np.abs(kernel).max(axis=(0, *axis) if depthwise else axis, keepdims=True)
    step = np.where(step, step, 1) / 127
    assert_answers(encoded, x, answer, [np.round(kernel / step) * step], [bias])


@pytest.mark.parametrize("encoding", ["rows", "blocks", "mixed"])
@pytest.mark.parametrize(("inputs", "split"), [(40, 4), (40, 20), (42, 7), (45, 3)])
def test_a_layer_that_flattens_what_it_reads(encoding, inputs, split):
    """Threads that share a batch took the last axis for all of a sample."""
    rng = np.random.default_rng(0)
    kernels = [sparse_kernel(rng, (200, inputs), 0.95, 4)]
    biases = [rng.normal(size=200).astype(np.float32)]
    file = dense_file(kernels, biases, split)
    encoded = ENCODINGS[encoding](file)
    form = {"rows": "csr"}.get(encoding, "block 1x4")
    assert {w.encoding for w in read_weights(encoded)} == {form}
    x = rng.normal(size=(8, split, inputs // split)).astype(np.float32)

    def answer(kernels, biases, x):
        return dense_answer(kernels, biases, x.reshape(len(x), -1))

    assert_answers(encoded, x, answer, kernels, biases)


def test_encodings_do_what_they_are_named_for():
    rng = np.random.default_rng(0)
    shapes = ((200, 301), (60, 200))
    rows, blocks = (
        [sparse_kernel(rng, shape, 0.95, block) for shape in shapes] for block in (1, 4)
    )
    forms = {}
    for name, kernels in (("rows", rows), ("blocks", blocks)):
        file = dense_file(kernels, [np.zeros(len(k), np.float32) for k in kernels])
        for encoding in ENCODINGS:
            weights = read_weights(ENCODINGS[encoding](file))
            forms[name, encoding] = {w.encoding for w in weights}
    assert forms["rows", "dense"] == {"dense"}
    assert forms["rows", "rows"] == forms["rows", "mixed"] == {"csr"}
    assert forms["rows", "blocks"] == {"block 1x4"}
    assert forms["blocks", "mixed"] == forms["blocks", "blocks"] == {"block 1x4"}
