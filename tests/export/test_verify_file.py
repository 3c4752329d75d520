"""Files of others, compared with a model: right ones, wrong ones, damaged ones."""

import pathlib
import subprocess
import sys
import tempfile

import keras
import numpy as np
import pytest
import tensorflow as tf
from ai_edge_litert.tools import flatbuffer_utils
from export_models import conv_net, dense_net, samples, two_by_two
from flat_files import dense_file
from keras import layers

from scl_keras.export import first_run, verify_file, verify_tflite
from scl_keras.export.converter import ConvertedFiles
from scl_keras.export.flat_model import FlatModel
from scl_keras.export.precisions import PRECISIONS
from scl_keras.export.reference import build_reference
from scl_keras.export.verification import open_interpreter

RUNS = {
    (delegate, threads)
    for delegate in ("default delegate", "no delegate")
    for threads in (1, 2, 4)
}


def converted(model, batch_size=None, **options):
    """What TensorFlow's converter makes of a model, without a signature."""
    specs = [
        tf.TensorSpec((batch_size, *tensor.shape[1:]), tensor.dtype)
        for tensor in model.inputs
    ]
    function = tf.function(lambda *x: model(x if len(x) > 1 else x[0]), specs)
    return converted_function(function, **options)


def converted_function(function, **options):
    concrete = function.get_concrete_function()
    converter = tf.lite.TFLiteConverter.from_concrete_functions([concrete])
    for name, value in options.items():
        setattr(converter, name, value)
    return converter.convert()


def exported(model, inputs, outputs):
    """A file with a signature, in which a model's inputs and outputs are called so."""
    archive = keras.export.ExportArchive()
    archive.track(model)

    def serve(*values):
        return dict(zip(outputs, model(list(values)), strict=True))

    specs = [
        tf.TensorSpec(tensor.shape, tensor.dtype, name)
        for name, tensor in zip(inputs, model.inputs, strict=True)
    ]
    archive.add_endpoint("serve", serve, specs)
    with tempfile.TemporaryDirectory() as folder:
        archive.write_out(folder, verbose=False)
        return tf.lite.TFLiteConverter.from_saved_model(folder).convert()


@pytest.fixture(scope="module")
def model():
    return dense_net(8, 16, 4)


@pytest.fixture(scope="module")
def x():
    return samples(8)


@pytest.fixture(scope="module")
def file(model):
    return converted(model)


def test_a_right_file_in_all_ways_to_run_it(model, x, file, tmp_path):
    (tmp_path / "a.tflite").write_bytes(file)
    classes = np.asarray(model(x)).argmax(-1)
    found = verify_tflite(tmp_path / "a.tflite", model, x, labels=classes)
    assert found.correct and not found.problems
    assert found.path == str(tmp_path / "a.tflite") and found.bytes == len(file)
    assert found.precision == "float32" and found.tolerance == 1e-4
    assert found.relative_difference < 1e-5
    assert {(d.delegate, d.threads) for d in found.differences} == RUNS
    ways = {(d.samples, d.resized) for d in found.differences}
    assert ways == {
        ("one sample", False),
        ("several samples", True),
        ("shuffled inputs", True),
    }
    assert found.agreement == {"output_0": 1.0}
    assert found.accuracy == found.file_accuracy == 1.0
    assert list(found.outputs.values()) == ["output_0"]
    assert "It computes what the model computes" in str(found)


def test_differences_are_those_of_the_outputs(model, x, file):
    """A model with other weights, compared by hand."""
    other = keras.models.clone_model(model)
    other.set_weights([w + 0.01 for w in model.get_weights()])
    found = verify_tflite(file, other, x)
    distance = np.abs(np.asarray(other(x)) - np.asarray(model(x)))
    rows = [d for d in found.differences if d.samples == "several samples"]
    full = [d for d in rows if d.threads == 1]
    assert len(full) == 2
    for row in full:
        np.testing.assert_allclose(row.largest, distance.max(), rtol=1e-3)
        np.testing.assert_allclose(row.scale, np.abs(np.asarray(other(x))).max())
    same = np.asarray(other(x)).argmax(-1) == np.asarray(model(x)).argmax(-1)
    assert found.agreement["output_0"] <= same.mean()
    assert not found.correct
    assert "output 'output_0' is off by" in found.problems[0]
    assert "It does not compute what the model computes" in str(found)
    assert "more such problems" in str(found)
    loose = verify_tflite(file, other, x, tolerance=1.0)
    assert loose.correct and loose.tolerance == 1.0


def test_what_goes_wrong_in_one_setting_only(model, x, file, monkeypatch):
    def answer(self, setting):
        run = opened(self, setting)
        off = 1.0 if setting.threads == 4 and setting.delegate == "no delegate" else 0
        return lambda inputs: {k: v + off for k, v in run(inputs).items()}

    opened = verify_file.ForeignFile.open
    monkeypatch.setattr(verify_file.ForeignFile, "open", answer)
    found = verify_tflite(file, model, x)
    assert len(found.problems) == 2  # one sample, and several
    assert all("no delegate, 4 threads" in problem for problem in found.problems)


@pytest.mark.parametrize("kind", [tf.int8, tf.uint8])
def test_integers_for_inputs_and_outputs(model, x, kind):
    options = {
        "optimizations": [tf.lite.Optimize.DEFAULT],
        "representative_dataset": lambda: ([row[None]] for row in x),
        "inference_input_type": kind,
        "inference_output_type": kind,
    }
    with pytest.warns(UserWarning, match="Statistics for quantized inputs"):
        file = converted(model, **options)
    found = verify_tflite(file, model, x)
    assert found.correct and found.precision == "int8" and found.tolerance == 0.15
    assert not any(d.samples == "shuffled inputs" for d in found.differences)
    # By hand, with the scales that the file has.
    interpreter = open_interpreter(file)
    [given], [told] = interpreter.get_input_details(), interpreter.get_output_details()
    assert given["dtype"] == told["dtype"] == kind.as_numpy_dtype
    (scale, zero), (step, shift) = given["quantization"], told["quantization"]
    interpreter.allocate_tensors()
    info = np.iinfo(given["dtype"])
    steps = np.clip(np.round(x[:1] / scale) + zero, info.min, info.max)
    interpreter.set_tensor(given["index"], steps.astype(given["dtype"]))
    interpreter.invoke()
    answer = (interpreter.get_tensor(told["index"]).astype(float) - shift) * step
    distance = np.abs(answer - np.asarray(model(x[:1]))).max()
    row = next(d for d in found.differences if d.samples == "one sample")
    np.testing.assert_allclose(row.largest, distance, rtol=1e-4)
    assert 0 < row.relative < 0.05


@pytest.fixture(scope="module")
def sparse_files():
    model, x = conv_net(0.9), samples(12, 12, 3, count=8)
    reference = build_reference(model, x)
    with ConvertedFiles(reference) as files:
        made = {p.name: files.dense(p) for p in PRECISIONS}
        made["sparse"] = files.sparse()
    return model, x, made


@pytest.mark.slow
@pytest.mark.parametrize("name", [*[p.name for p in PRECISIONS], "sparse"])
def test_files_of_all_precisions(sparse_files, name):
    model, x, made = sparse_files
    found = verify_tflite(made[name], model, x)
    assert found.correct
    expected = "float32" if name in ("", "sparse") else name
    assert found.precision == expected


def test_a_fixed_number_of_samples(model, x):
    for size in (1, 3):
        file = converted(model, size)
        found = verify_tflite(file, model, x)
        assert found.correct
        assert {(d.samples, d.resized) for d in found.differences} == {
            (f"batches of {size}", False),
            ("shuffled inputs", False),
        }


def test_a_model_of_a_fixed_number_of_samples(model, x, file):
    fixed = keras.Sequential([keras.Input(batch_shape=(4, 8)), *model.layers])
    found = verify_tflite(file, fixed, x)
    assert found.correct
    assert {d.samples for d in found.differences} == {
        "several samples",
        "shuffled inputs",
    }
    assert verify_tflite(converted(model, 3), fixed, x).correct


TWO = {"left": samples(40, count=6), "right": samples(33, count=6, seed=2)}


def test_several_inputs_and_outputs_by_shape():
    model = two_by_two(0.5)
    found = verify_tflite(converted(model), model, TWO)
    assert found.correct
    assert sorted(found.inputs.values()) == ["left", "right"]
    assert {d.output for d in found.differences} == {"output_0", "output_1"}
    assert set(found.agreement) == {"output_0"}  # the other one has a single entry
    labels = np.zeros(6, int)
    with pytest.raises(ValueError, match="`labels` need a model with one output"):
        verify_tflite(converted(model), model, TWO, labels=labels)


def twins():
    """Two inputs and two outputs that only names tell apart."""
    a, b = keras.Input((4,), name="a"), keras.Input((4,), name="b")
    outputs = [layers.Dense(2, name="p")(a), layers.Dense(2, name="q")(b)]
    return keras.Model([a, b], outputs)


X_OF_TWINS = {"a": samples(4, count=6), "b": samples(4, count=6, seed=2)}


@pytest.mark.slow
def test_twins_are_told_apart_by_name_and_by_number():
    model = twins()
    for inputs, outputs in (
        (["a", "b"], ["output_0", "output_1"]),
        (["a", "b"], ["p", "q"]),  # as `tf_keras` and TFMOT call them
        (["x", "x_1"], ["y", "y_1"]),
    ):
        found = verify_tflite(exported(model, inputs, outputs), model, X_OF_TWINS)
        assert found.correct
        assert found.inputs == dict(zip(inputs, ["a", "b"], strict=True))
        assert list(found.outputs) == sorted(outputs)
    turned = exported(model, ["a", "b"], ["q", "p"])
    assert not verify_tflite(turned, model, X_OF_TWINS).correct


def test_twins_are_told_apart_without_a_signature():
    """By the names and the numbers that TensorFlow leaves in those of tensors."""
    model = twins()
    flat = FlatModel(exported(model, ["a", "b"], ["output_0", "output_1"]))
    flat.model.signatureDefs = None
    file = flat.to_bytes()
    names = [d["name"] for d in open_interpreter(file).get_input_details()]
    assert sorted(names) == ["serving_default_a:0", "serving_default_b:0"]
    for swap in (False, True):  # what is stored first says nothing
        graph = flat.model.subgraphs[0]
        graph.outputs = graph.outputs[::-1] if swap else graph.outputs
        found = verify_tflite(flat.to_bytes(), model, X_OF_TWINS)
        assert found.correct
        assert sorted(found.outputs.values()) == ["output_0", "output_1"]


def test_twins_are_told_apart_by_the_caller():
    model = twins()
    strange = exported(model, ["u", "v"], ["p", "q"])
    with pytest.raises(ValueError, match="can't be told which inputs"):
        verify_tflite(strange, model, X_OF_TWINS)
    told = {"u": "a", "v": "b"}
    found = verify_tflite(strange, model, X_OF_TWINS, inputs=told)
    assert found.correct and found.inputs == told
    turned = {"u": "b", "v": "a"}
    assert not verify_tflite(strange, model, X_OF_TWINS, inputs=turned).correct
    outputs = {"p": "output_1", "q": "p"}  # by the name here, and by the layer's
    options = {"inputs": told, "outputs": outputs}
    assert not verify_tflite(strange, model, X_OF_TWINS, **options).correct
    for wrong in (3, {}, {"u": "a"}, {"u": "a", "v": "a"}, {**told, "w": "a"}):
        with pytest.raises(ValueError, match="`inputs` must be a dict"):
            verify_tflite(strange, model, X_OF_TWINS, inputs=wrong)


def test_token_ids_of_another_integer_type(rng):
    stack = [layers.Embedding(9, 4), layers.Flatten(), layers.Dense(3)]
    model = keras.Sequential([keras.Input((5,), dtype="int64"), *stack])
    ids = rng.integers(0, 9, (6, 5))
    function = tf.function(model, [tf.TensorSpec((None, 5), tf.int32)])
    file = converted_function(function)
    assert open_interpreter(file).get_input_details()[0]["dtype"] is np.int32
    assert verify_tflite(file, model, ids).correct


def test_a_file_that_fails_when_it_is_resized(model, x):
    """Its samples are flattened to a number that is written down: of one sample."""
    function = tf.function(
        lambda t: model(tf.reshape(t, (1, 8))), [tf.TensorSpec((None, 8), tf.float32)]
    )
    file = converted_function(function)
    found = verify_tflite(file, model, x, labels=np.asarray(model(x)).argmax(-1))
    assert not found.correct
    assert found.accuracy == 1 and found.file_accuracy is None  # not of a few samples
    assert any("several samples" in problem for problem in found.problems)
    assert not any("on one sample" in problem for problem in found.problems)


def test_files_that_do_not_fit(model, x, file):
    with pytest.raises(ValueError, match="has 1 inputs, and the model 2"):
        verify_tflite(file, two_by_two(0), TWO)
    with pytest.raises(ValueError, match=r"another shape than .*\(-1, 8\)"):
        verify_tflite(file, dense_net(9), samples(9))
    with pytest.raises(ValueError, match=r"output .* another shape than 'output_0'"):
        verify_tflite(file, dense_net(8, 16, 5), x)
    scores = keras.Sequential([keras.Input((8,), dtype="int32"), layers.Dense(4)])
    assert not verify_tflite(file, scores, np.arange(80).reshape(10, 8)).correct


def test_damaged_files_are_refused(model, x, file, tmp_path):
    (tmp_path / "empty.tflite").write_bytes(b"")
    with pytest.raises(ValueError, match="no TFLite file"):
        verify_tflite(tmp_path / "empty.tflite", model, x)
    with pytest.raises(ValueError, match="no TFLite file"):
        verify_tflite(b"\0" * 4 + b"TFL2" + b"\0" * 99, model, x)
    for length in range(8, len(file), len(file) // 20):
        with pytest.raises(ValueError, match="damaged|doesn't load"):
            verify_tflite(file[:length], model, x)
    with pytest.raises(ValueError, match="damaged"):
        verify_tflite(b"\xff" * 4 + b"TFL3" + b"\xff" * 999, model, x)
    with pytest.raises(FileNotFoundError):
        verify_tflite(tmp_path / "none.tflite", model, x)


def test_indices_out_of_range_are_refused(model, x, rng):
    kernel = rng.normal(size=(4, 8)).astype("float32")
    flat = FlatModel(dense_file([kernel], [np.zeros(4, "float32")]))
    [operator] = flat.model.subgraphs[0].operators
    operator.opcodeIndex = 7
    broken = bytes(flatbuffer_utils.convert_object_to_bytearray(flat.model))
    with pytest.raises(ValueError, match="damaged.*operator is of kind 7"):
        verify_tflite(broken, dense_net(8, 16, 4), x)


def test_a_process_that_a_file_ends(model, x, file, tmp_path, monkeypatch):
    """The process is another one: this one goes on."""
    crash = tmp_path / "crash.py"
    crash.write_text("import os\nos.abort()\n")
    monkeypatch.setattr(first_run, "__file__", str(crash))
    with pytest.raises(ValueError, match="the process that ran it ended with"):
        verify_tflite(file, model, x)


def test_the_process_runs_what_it_is_given(file):
    script = pathlib.Path(first_run.__file__)
    for content in (file, file[: len(file) // 2], b""):
        ended = subprocess.run([sys.executable, "-P", script], input=content)
        assert ended.returncode == 0


def test_wrong_arguments(model, x, file):
    with pytest.raises(ValueError, match="`tolerance` must be"):
        verify_tflite(file, model, x, tolerance=0)
    with pytest.raises(ValueError, match="`file` must be"):
        verify_tflite(3, model, x)
    with pytest.raises(ValueError, match="must be a keras.Model"):
        verify_tflite(file, "model", x)
    with pytest.raises(ValueError, match="must have the shape"):
        verify_tflite(file, model, x[:, :3])
