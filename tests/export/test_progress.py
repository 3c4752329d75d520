"""How long an export takes, and what it prints meanwhile."""

import os

import keras
import pytest
from ai_edge_litert.interpreter import Interpreter
from export_models import dense_net, put_zeros, samples
from keras import layers

from scl_keras.export import export_tflite
from scl_keras.export import tflite as tflite_module
from scl_keras.export.chatter import without_chatter
from scl_keras.export.converter import ConvertedFiles
from scl_keras.export.tflite import export_steps


@pytest.mark.slow
def test_a_bar_and_nothing_else(tmp_path, capfd):
    """The converter prints `fully_quantize: ...` for files of int8, from C++."""
    model, x = dense_net(30, zeros=0.9), samples(30)
    shown = {}
    for verbose in (1, 0):
        export_tflite(
            model,
            tmp_path / "m.tflite",
            samples=x,
            dtype="int8",
            latency_seconds=0,
            verbose=verbose,
        )
        shown[verbose] = "".join(capfd.readouterr())
    assert "export: " in shown[1] and "fully_quantize" not in shown[1]
    assert shown[0] == ""


@pytest.mark.slow
def test_a_function_is_told_of_each_step(tmp_path, capsys):
    told = []
    options = {"samples": samples(8), "latency_seconds": 0, "verbose": told.append}
    export_tflite(dense_net(8), tmp_path / "model.tflite", dtype="int8", **options)
    assert len(told) == export_steps("int8")
    assert told[:2] == ["answers of Keras", "conversion"] and told[-1] == "times"
    assert "%|" not in capsys.readouterr().err


def test_what_is_printed_before_a_failure_is_shown(capfd):
    with without_chatter():
        os.write(2, b"nothing to see\n")
    with pytest.raises(KeyError), without_chatter():
        os.write(2, b"the reason\n")
        raise KeyError
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "the reason\nafterwards\n"


@pytest.mark.slow
def test_what_differs_in_encoding_only_is_converted_once(tmp_path, monkeypatch):
    """14 conversions before: twice for `int8 weights`, and four sparse ones."""
    model, x = dense_net(40, hidden=60, zeros=0.8), samples(40)
    kernel = model.layers[0].kernel.numpy()
    kernel[:, 20:] = 0
    model.layers[0].kernel.assign(kernel)
    converted, convert = [], ConvertedFiles._convert

    def counted(self, precision, compacted=False, optimizations=()):
        converted.append((precision.name, compacted, bool(optimizations)))
        return convert(self, precision, compacted, optimizations)

    monkeypatch.setattr(ConvertedFiles, "_convert", counted)
    export_tflite(
        model, tmp_path / "m.tflite", samples=x, dtype="int8", latency_seconds=0
    )
    assert len(converted) == len(set(converted)) <= 8


def open_network(width=64):
    """A network of any length with dead filters."""
    inputs = keras.Input((None, 6))
    x = layers.Conv1D(width, 5, padding="same", activation="relu")(inputs)
    x = layers.Conv1D(width, 3, strides=2, activation="relu")(x)
    x = layers.GlobalAveragePooling1D()(x)
    model = put_zeros(keras.Model(inputs, layers.Dense(4)(x)), 0.5)
    for layer in model.layers[1:3]:
        kernel, bias = layer.get_weights()
        kernel[..., width // 4 :], bias[width // 4 :] = 0, 0
        layer.set_weights([kernel, bias])
    return model


@pytest.mark.slow
def test_open_sizes_are_compacted_and_stay_open(tmp_path):
    model, path = open_network(), tmp_path / "m.tflite"
    report = export_tflite(
        model, path, samples=samples(20, 6), optimize_for="size", latency_seconds=0
    )
    assert report.candidate.startswith("compact")
    assert report.bytes_written < 0.4 * report.bytes_dense
    run = Interpreter(str(path)).get_signature_runner()
    [name] = run.get_input_details()
    for length in (9, 20, 77):
        x = samples(length, 6, count=3)
        found = run(**{name: x})["output_0"]
        assert abs(found - model.predict(x, verbose=0)).max() < 1e-4


@pytest.mark.slow
def test_what_is_dead_at_the_samples_sizes_only_stays(tmp_path):
    """At length 1 the padding hides all but the middle of each kernel."""
    model = open_network()
    kernel, bias = model.layers[1].get_weights()
    kernel[2, :, :8] = 0  # the middle of eight filters
    model.layers[1].set_weights([kernel, bias])
    inputs = keras.Input((None, 6))
    x = model.layers[1](inputs)
    x = layers.GlobalAveragePooling1D()(x)
    model = keras.Model(inputs, layers.Dense(4)(x))
    path = tmp_path / "m.tflite"
    report = export_tflite(model, path, samples=samples(1, 6), latency_seconds=0)
    assert "compact" not in report.candidate
    assert "sizes that are open" in str(report)


def test_progress_ends_where_an_argument_does_not_fit(tmp_path, monkeypatch):
    monkeypatch.setattr(tflite_module, "ConvertedFiles", None)
    with pytest.raises(ValueError, match="Received"):
        export_tflite(dense_net(8), tmp_path / "m.tflite", samples=samples(7))
