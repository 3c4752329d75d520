"""`.keras` files: what can't be read says why, and what is written is whole."""

import sys

import keras
import numpy as np
import pytest
from keras import layers

from scl_keras.command_line.main import main
from scl_keras.command_line.models import check_out, read_model, write_model

MODULE = """
import keras

@keras.saving.register_keras_serializable("mine")
class Twice(keras.layers.Layer):
    def call(self, x):
        return 2 * x
"""


@pytest.fixture
def model():
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    model.compile("sgd", "mse")
    return model


def test_a_model_is_read(model, tmp_path):
    path = str(tmp_path / "model.keras")
    model.save(path)
    found = read_model(path)
    np.testing.assert_array_equal(found.get_weights()[0], model.get_weights()[0])
    assert not found.compiled and read_model(path, compiled=True).compiled


def test_what_is_no_model(model, tmp_path):
    model.save(tmp_path / "model.keras")
    whole = (tmp_path / "model.keras").read_bytes()
    np.savez(tmp_path / "zip.keras", x=np.zeros(3))
    (tmp_path / "zip.keras.npz").rename(tmp_path / "zip.keras")
    (tmp_path / "model.zip").write_bytes(whole)
    (tmp_path / "text.keras").write_text("a model")
    for name in ("zip.keras", "model.zip", "text.keras"):
        with pytest.raises(ValueError, match=f"{name} is no `.keras` file"):
            read_model(str(tmp_path / name))
    with pytest.raises(FileNotFoundError):
        read_model(str(tmp_path / "none.keras"))
    with pytest.raises(IsADirectoryError):
        read_model(str(tmp_path))


def test_a_damaged_model(model, tmp_path):
    path = tmp_path / "model.keras"
    model.save(path)
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 255  # in the weights
    path.write_bytes(whole)
    with pytest.raises(ValueError, match="Keras can't load the model"):
        read_model(str(path))


def test_a_module_that_registers_a_class(tmp_path, monkeypatch, capsys):
    (tmp_path / "my_twice.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    from my_twice import Twice

    path = str(tmp_path / "model.keras")
    keras.Sequential([keras.Input((4,)), Twice(), layers.Dense(3)]).save(path)
    keras.saving.get_custom_objects().pop("mine>Twice")
    monkeypatch.delitem(sys.modules, "my_twice")
    assert main(["summary", path]) == 2
    assert "--import=my_module" in capsys.readouterr().err
    assert main(["summary", path, "--import=my_twice"]) == 0
    keras.saving.get_custom_objects().pop("mine>Twice")
    assert main(["summary", path, "--import=not_there"]) == 2
    error = capsys.readouterr().err
    assert "--import=not_there" in error and "ModuleNotFoundError" in error


def test_code_in_a_file_is_not_run(tmp_path, capsys):
    path = str(tmp_path / "model.keras")
    stack = [layers.Lambda(lambda x: x + 1, output_shape=(4,)), layers.Dense(3)]
    keras.Sequential([keras.Input((4,)), *stack]).save(path)
    assert main(["summary", path]) == 2
    assert "holds Python code" in capsys.readouterr().err


def test_a_file_is_written_whole_or_not_at_all(model, tmp_path, monkeypatch):
    path = tmp_path / "out.keras"
    path.write_text("before")

    def fail(target):
        target.write_text("half")
        raise OSError("the disk is full")

    monkeypatch.setattr(model, "save", fail)
    with pytest.raises(OSError, match="full"):
        write_model(model, str(path))
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir()] == ["out.keras"]
    monkeypatch.undo()
    write_model(model, str(path))
    assert [p.name for p in tmp_path.iterdir()] == ["out.keras"]
    assert read_model(str(path)).count_params() == 15


def test_where_nothing_can_be_written(tmp_path):
    (tmp_path / "folder.keras").mkdir()
    for name in ("model.h5", "none/model.keras", "folder.keras"):
        with pytest.raises(ValueError, match="--out must"):
            check_out(str(tmp_path / name), ".keras")
    check_out(str(tmp_path / "new.keras"), ".keras")
