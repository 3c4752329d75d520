"""A file is there as a whole or not at all."""

import os

import pytest

from scl_keras.files import write_whole


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_crash_while_writing(tmp_path, monkeypatch, step):
    path = tmp_path / "model.tflite"
    path.write_bytes(b"the file of yesterday")

    def crash(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, step, crash)
    with pytest.raises(OSError, match="disk full"):
        write_whole(path, b"the file of today")
    monkeypatch.undo()
    assert path.read_bytes() == b"the file of yesterday"
    assert [p.name for p in tmp_path.iterdir()] == ["model.tflite"]
