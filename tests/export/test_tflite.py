"""`export_tflite` from end to end."""

import gzip
import json
import os
import textwrap

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from export_models import conv_net, dense_net, put_zeros, samples, two_by_two
from keras import layers

from scl_keras.export import ExportReport, export_tflite
from scl_keras.export import tflite as tflite_module
from scl_keras.export.candidates import candidates

RESOLVERS = (OpResolverType.AUTO, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


METADATA_BYTES = 200


def only(monkeypatch, *names):
    """Has only some of the candidates tried."""

    def some(dtype):
        return [c for c in candidates(dtype) if c.name in names]

    monkeypatch.setattr(tflite_module, "candidates", some)


def export(model, path, inputs, **options) -> ExportReport:
    return export_tflite(model, path, samples=inputs, latency_seconds=0, **options)


def run(file, resolver=OpResolverType.AUTO, **inputs):
    """Runs the bytes of a file, apart from the code under test."""
    interpreter = Interpreter(
        model_content=file, experimental_op_resolver_type=resolver, num_threads=1
    )
    return interpreter.get_signature_runner()(**inputs)


def relative_error(found, expected):
    return np.abs(found - expected).max() / np.abs(expected).max()


def assert_correct(path, model, inputs):
    """One input, one output: the file on disk agrees with Keras."""
    expected = np.asarray(model(inputs, training=False))
    for resolver in RESOLVERS:
        [name] = Interpreter(str(path)).get_signature_runner().get_input_details()
        outputs = run(path.read_bytes(), resolver, **{name: inputs})
        assert relative_error(outputs["output_0"], expected) < 1e-5


def converters_own_file(model, capfd) -> bytes:
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.EXPERIMENTAL_SPARSITY]
    file = converter.convert()
    capfd.readouterr()
    return file


@pytest.mark.slow
@pytest.mark.parametrize(
    ("inputs", "zeros"), [(6, 0.97), (10, 0.98), (50, 0.99), (301, 0.98)]
)
def test_inputs_no_multiple_of_four(tmp_path, capfd, inputs, zeros):
    model, x = dense_net(inputs, hidden=300, zeros=zeros), samples(inputs)
    raw = converters_own_file(model, capfd)
    [name] = Interpreter(model_content=raw).get_signature_runner().get_input_details()
    expected = np.asarray(model(x))
    raw_error = relative_error(run(raw, **{name: x})["output_0"], expected)
    assert raw_error > 1e-3, "the converter is right here: the test shows nothing"

    report = export(model, tmp_path / "model.tflite", x)

    assert report.repaired
    sparse = next(a for a in report.attempts if a.candidate == "sparse")
    assert not sparse.correct
    assert f"do not divide the {inputs} entries" in sparse.outcome
    assert report.candidate != "sparse"
    assert report.bytes_written < min(len(raw), report.bytes_dense)
    assert_correct(tmp_path / "model.tflite", model, x)


@pytest.mark.slow
def test_own_rows_are_smaller_than_blocks(tmp_path):
    # A multiple of four: the converter's blocks are right, but large.
    model, x = dense_net(400, 300, zeros=0.98), samples(400)
    report = export(model, tmp_path / "model.tflite", x)
    assert not report.repaired
    blocks = next(a for a in report.attempts if a.candidate == "sparse")
    assert blocks.correct and blocks.bytes > 1.5 * report.bytes_written
    assert_correct(tmp_path / "model.tflite", model, x)


@pytest.mark.parametrize("zeros", [0.5, 0.95])
def test_convolutions(tmp_path, zeros):
    model, x = conv_net(zeros), samples(12, 12, 3)
    report = export(model, tmp_path / "model.tflite", x)
    assert report.bytes_written < (0.9 if zeros == 0.5 else 0.4) * report.bytes_dense
    assert sum(t.encoding.startswith("csr") for t in report.tensors) >= 3
    assert_correct(tmp_path / "model.tflite", model, x)


@pytest.mark.slow
@pytest.mark.parametrize("as_dict", [False, True])
def test_several_inputs_and_outputs(tmp_path, as_dict):
    model, path = two_by_two(0.9), tmp_path / "model.tflite"
    left, right = samples(40), samples(33, seed=2)
    given = {"right": right, "left": left} if as_dict else [left, right]
    report = export(model, path, given)
    assert {d.output for d in report.differences} == {"output_0", "output_1"}
    assert len(report.differences) == 4  # each output in each runtime
    expected = model([left, right])
    for resolver in RESOLVERS:
        outputs = run(path.read_bytes(), resolver, left=left, right=right)
        for index in range(2):
            found = outputs[f"output_{index}"]
            assert relative_error(found, np.asarray(expected[index])) < 1e-5


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.hidden = layers.Dense(64)

    def call(self, inputs):
        hidden = self.hidden(inputs["pixels"])
        active = keras.ops.sum(keras.ops.cast(hidden > 0, "int32"), axis=-1)
        return {"hidden": hidden, "active": active + inputs["shift"]}


@pytest.mark.slow
def test_subclassed_model_with_integers(tmp_path):
    model = Subclassed()
    x = {"pixels": samples(70), "shift": np.arange(40, dtype="int32")}
    model({key: value[:1] for key, value in x.items()})
    put_zeros(model, 0.9)
    report = export(model, tmp_path / "model.tflite", x)
    assert "csr" in {t.encoding for t in report.tensors}
    outputs = run((tmp_path / "model.tflite").read_bytes(), **x)
    np.testing.assert_array_equal(outputs["active"], np.asarray(model(x)["active"]))


def test_without_zeros_the_file_is_dense(tmp_path):
    model, x = dense_net(20), samples(20)
    report = export(model, tmp_path / "model.tflite", x)
    assert report.candidate == "dense"
    assert report.bytes_dense == report.bytes_bitmap
    assert report.bytes_written - report.bytes_dense < METADATA_BYTES
    assert {t.encoding for t in report.tensors} == {"dense"}
    assert {a.correct for a in report.attempts if not a.chosen} == {None}
    assert not report.repaired
    assert_correct(tmp_path / "model.tflite", model, x)


@pytest.mark.parametrize("inputs", [40, 41])
def test_kernel_without_connections(tmp_path, inputs):
    model, x = dense_net(inputs), samples(inputs)
    model.layers[0].kernel.assign(np.zeros((inputs, 50)))
    report = export(model, tmp_path / "model.tflite", x)
    assert max(t.sparsity for t in report.tensors) == 1
    assert report.bytes_written < report.bytes_dense - 0.9 * 4 * 50 * inputs
    assert_correct(tmp_path / "model.tflite", model, x)


@pytest.mark.slow
def test_fixed_batch_size(tmp_path):
    model = keras.Sequential(
        [keras.Input(batch_shape=(3, 8)), layers.Dense(64), layers.Dense(4)]
    )
    report = export(put_zeros(model, 0.9), tmp_path / "model.tflite", samples(8))
    assert report.largest_difference < 1e-4
    [details] = Interpreter(str(tmp_path / "model.tflite")).get_input_details()
    assert details["shape"].tolist() == [3, 8]


def test_one_sample_is_enough(tmp_path):
    model, x = dense_net(20, zeros=0.9), samples(20, count=1)
    export(model, tmp_path / "model.tflite", x)
    assert_correct(tmp_path / "model.tflite", model, np.repeat(x, 5, axis=0))


def test_report_agrees_with_the_file(tmp_path, monkeypatch):
    only(monkeypatch, "dense", "csr")
    model, x = dense_net(301, hidden=100, zeros=0.98), samples(301)
    path = tmp_path / "model.tflite"
    report = export_tflite(model, path, samples=x, latency_seconds=0.1)

    file = path.read_bytes()
    assert report.path == str(path)
    assert report.bytes_written == os.path.getsize(path)
    assert report.gzip_written == len(gzip.compress(file, 6))
    dense = next(a for a in report.attempts if a.candidate == "dense")
    assert dense.bytes - METADATA_BYTES < report.bytes_dense < dense.bytes
    assert report.bytes_dense > 4 * (301 * 100 + 100 * 10)

    kernel = model.layers[0].kernel.numpy()
    nonzero = np.count_nonzero(kernel)
    first = next(t for t in report.tensors if t.shape == (100, 301))
    assert first.sparsity == pytest.approx(1 - nonzero / kernel.size)
    # Rows along the shorter axis: a float and a byte a non-zero, and the starts.
    assert (first.encoding, first.bytes) == ("csr axis 0", 5 * nonzero + 2 * 302)
    assert first.bitmap_bytes == 4 * nonzero + -(-kernel.size // 8)
    last = next(t for t in report.tensors if t.shape == (10, 100))
    assert report.bytes_bitmap == report.bytes_dense - (
        first.dense_bytes + last.dense_bytes - first.bitmap_bytes - last.bitmap_bytes
    )

    details = Interpreter(str(path)).get_tensor_details()
    sparse = {d["name"] for d in details if d["sparsity_parameters"]}
    assert sparse == {t.name for t in report.tensors if t.encoding != "dense"}

    expected = np.asarray(model(x))
    [name] = Interpreter(str(path)).get_signature_runner().get_input_details()
    for resolver, largest in zip(
        RESOLVERS,
        (report.largest_difference, report.largest_difference_without_delegate),
        strict=True,
    ):
        found = run(file, resolver, **{name: x})["output_0"]
        error = np.abs(found - expected).max()
        assert error == pytest.approx(largest, abs=float(2e-7 * np.abs(expected).max()))

    assert report.latency.dense_ms > 0 and report.latency.written_ms > 0
    speed = report.latency.speed
    assert speed.low <= report.latency_ratio == speed.ratio <= speed.high


def test_report_as_dict_and_text(tmp_path):
    path = tmp_path / "model.tflite"
    report = export(dense_net(10, 300, zeros=0.98), path, samples(10))
    figures = json.loads(json.dumps(report.as_dict(), allow_nan=False))
    assert figures["bytes_written"] == path.stat().st_size
    assert figures["repaired"] is True
    assert figures["latency_ratio"] is None
    assert figures["tensors"][0]["shape"] == list(report.tensors[0].shape)
    text = str(report)
    for part in (str(path), f"{report.bytes_dense:,}", "csr", "x10 ", "no delegate"):
        assert part in text


@pytest.mark.slow
def test_docstring_example(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    code = export_tflite.__doc__.partition("```python")[2].partition("```")[0]
    names = {"keras": keras, "np": np, "export_tflite": export_tflite}
    exec(textwrap.dedent(code), names)
    assert "model.tflite" in capsys.readouterr().out


@pytest.mark.slow
def test_leaves_nothing_in_the_temporary_folder(tmp_path, monkeypatch):
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    (tmp_path / "out").mkdir()
    export(dense_net(10, zeros=0.9), tmp_path / "out" / "model.tflite", samples(10))
    assert not list(temporary.iterdir())
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["model.tflite"]
