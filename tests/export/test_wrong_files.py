"""No wrong file gets out: the known bad cases, and random models from end to end."""

import itertools

import keras
import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from export_models import dense_net, put_zeros, samples
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from keras import Sequential, layers

from scl_keras.export import ExportError, export_tflite
from scl_keras.export import tflite as tflite_module
from scl_keras.export.candidates import CONVERTER_SPARSE, Candidate
from scl_keras.export.converter import ConvertedFiles
from scl_keras.export.flat_model import BUILTIN, FlatModel
from scl_keras.export.precisions import PRECISIONS
from scl_keras.export.reference import build_reference

RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)

# Far beyond what rounding does to networks this small.
TOLERANCES = {"float32": 1e-5, "float16": 2e-3, "int8": 0.1}


def worst_error(file, x, expected):
    """Largest error as a share of the largest output: over runtimes and batch sizes."""
    worst = 0.0
    for resolver, threads in itertools.product(RESOLVERS, (1, 2, 4)):
        run = Interpreter(
            model_content=file,
            experimental_op_resolver_type=resolver,
            num_threads=threads,
        ).get_signature_runner()
        [name] = run.get_input_details()
        for batch in (x[:1], x):
            found = run(**{name: batch})["output_0"]
            error = np.abs(found - expected[: len(batch)]).max()
            worst = np.maximum(worst, error / np.abs(expected).max())
    return worst


def is_bad(file, x, expected, tolerance):
    try:
        return not worst_error(file, x, expected) < tolerance
    except (RuntimeError, ValueError):
        return True


@pytest.mark.slow
@pytest.mark.parametrize("name", ["", "float16", "int8", "int8 dynamic"])
@pytest.mark.parametrize(("inputs", "zeros"), [(50, 0.99), (301, 0.98)])
def test_the_converters_own_bad_files(tmp_path, monkeypatch, name, inputs, zeros):
    """Inputs that don't divide; float16 with blocks; int8 and dynamic int8 with zeros.

    Each is the only candidate, so that refusing it is all that is left to do.
    """
    [precision] = [p for p in PRECISIONS if p.name == name]
    model, x = dense_net(inputs, 300, zeros=zeros), samples(inputs)
    bad = Candidate(precision, CONVERTER_SPARSE)
    with ConvertedFiles(build_reference(model, x)) as files:
        file = bad.make(files)
    assert is_bad(file, x, np.asarray(model(x)), TOLERANCES[precision.dtype])
    monkeypatch.setattr(tflite_module, "candidates", lambda dtype: [bad])
    with pytest.raises(ExportError, match="wrong|does not run|something else"):
        export_tflite(model, tmp_path / "m.tflite", samples=x, latency_seconds=0)
    assert not list(tmp_path.iterdir())


def flattened(hidden=300):
    """A dense layer over an image, 5 % of whose blocks are on."""
    model = Sequential(
        [
            keras.Input((28, 28)),
            layers.Flatten(),
            layers.Dense(hidden, "relu"),
            layers.Dense(10),
        ]
    )
    kernel, rng = model.layers[1].kernel, np.random.default_rng(0)
    blocks = rng.random((28 * 28 // 4, hidden)) < 0.05
    kernel.assign(kernel * np.repeat(blocks, 4, axis=0))
    return model


@pytest.mark.slow
def test_a_flattened_image_in_several_threads(tmp_path):
    model, x = flattened(), samples(28, 28, count=8)
    path = tmp_path / "m.tflite"
    report = export_tflite(
        model, path, samples=x, optimize_for="latency", latency_seconds=0.1
    )
    assert next(a for a in report.attempts if a.candidate == "blocks").correct
    assert worst_error(path.read_bytes(), x, np.asarray(model(x))) < 1e-5


def without_reshape(file):
    """The same file, whose dense layers read what a RESHAPE in front of them reads."""
    flat = FlatModel(file)
    for graph, operator in flat.operators():
        if flat.kind(operator) == BUILTIN.RESHAPE:
            for reader in flat.readers(graph, operator.outputs[0]):
                reader.inputs = np.array([operator.inputs[0], *reader.inputs[1:]])
    return flat.to_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("count", [1, 40])
def test_a_file_that_is_wrong_in_several_threads_only(tmp_path, monkeypatch, count):
    model, x = flattened(), samples(28, 28, count=count)

    class Bad(Candidate):
        def make(self, files):
            return without_reshape(super().make(files))

    bad = Bad(PRECISIONS[0], "blocks")
    with ConvertedFiles(build_reference(model, x)) as files:
        file = bad.make(files)
    eight = samples(28, 28, count=8)
    expected = np.asarray(model(eight))
    one = Interpreter(model_content=file, num_threads=1).get_signature_runner()
    [name] = one.get_input_details()
    np.testing.assert_allclose(
        one(**{name: eight})["output_0"], expected, atol=1e-5 * np.abs(expected).max()
    )
    assert worst_error(file, eight, expected) > 0.1
    monkeypatch.setattr(tflite_module, "candidates", lambda dtype: [bad])
    with pytest.raises(ExportError, match="something else on the samples.*threads"):
        export_tflite(model, tmp_path / "m.tflite", samples=x, latency_seconds=0)
    assert not list(tmp_path.iterdir())


def random_model(kind, width, units, zeros, seed):
    if kind == "dense":
        shape, body = (width,), [layers.Dense(units, "relu")]
    elif kind == "flatten":
        shape = (width, 3)
        body = [layers.Flatten(), layers.Dense(units, "relu"), layers.Dense(units)]
    elif kind == "sequence":  # dense layers on the last axis of three
        shape = (4, width)
        body = [layers.Dense(units, "relu"), layers.Dense(8), layers.Flatten()]
    elif kind == "transposed":
        shape = (3, 3, width)
        body = [layers.Conv2DTranspose(units, 2, activation="relu"), layers.Flatten()]
    elif kind == "conv":
        shape = (5, 5, width)
        body = [layers.Conv2D(units, 3, activation="relu"), layers.Flatten()]
    else:
        shape = (5, 5, width)
        body = [layers.DepthwiseConv2D(2), layers.Conv2D(units, 1), layers.Flatten()]
    model = Sequential([keras.Input(shape), *body, layers.Dense(3)])
    return put_zeros(model, zeros, seed)


def random_models(test):
    return given(
        kind=st.sampled_from(
            ["dense", "flatten", "sequence", "conv", "depthwise", "transposed"]
        ),
        width=st.integers(1, 67),
        units=st.integers(1, 90),
        zeros=st.sampled_from([0.0, 0.3, 0.7, 0.9, 0.97, 0.99, 1.0]),
        dtype=st.sampled_from(sorted(TOLERANCES)),
        optimize_for=st.sampled_from(["size", "latency", "balanced"]),
        seed=st.integers(0, 99),
    )(test)


FAST = settings(
    max_examples=5,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
MANY = settings(FAST, max_examples=200)


def check_any_model(tmp_path, kind, width, units, zeros, dtype, optimize_for, seed):
    model = random_model(kind, width, units, zeros, seed)
    x = samples(*model.input_shape[1:], count=6, seed=seed)
    path = tmp_path / "m.tflite"
    report = export_tflite(
        model,
        path,
        samples=x,
        dtype=dtype,
        optimize_for=optimize_for,
        latency_seconds=1e-3,
    )
    expected = np.asarray(model(x))
    if np.abs(expected).max() > 0:
        assert worst_error(path.read_bytes(), x, expected) < TOLERANCES[dtype]
    if optimize_for == "size":
        assert report.bytes_written < report.bytes_dense + 200


@pytest.mark.slow
@random_models
@FAST
def test_any_model(tmp_path, **case):
    check_any_model(tmp_path, **case)


@pytest.mark.slow
@random_models
@MANY
def test_hundreds_of_models(tmp_path, **case):
    check_any_model(tmp_path, **case)
