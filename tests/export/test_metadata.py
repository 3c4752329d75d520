"""Files that say something of themselves, and damaged ones."""

import json

import keras
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from scl_keras.export import export_tflite, read_metadata
from scl_keras.export.flat_model import FlatModel
from scl_keras.export.metadata import add_metadata

KINDS = {"version": str, "candidate": str, "weights": int, "nonzero": int}


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    path = tmp_path_factory.mktemp("file") / "model.tflite"
    x = np.random.default_rng(0).normal(size=(4, 8)).astype("float32")
    export_tflite(model, path, samples=x, latency_seconds=0)
    return path.read_bytes()


def outcome(path, contents):
    """What is read of a file of these contents, or None for the documented error."""
    path.write_bytes(contents)
    try:
        found = read_metadata(path)
    except ValueError as error:
        assert "`path` must be a file that `export_tflite` wrote" in str(error)
        assert "Received: path=" in str(error)
        return None
    assert {key: type(found[key]) for key in KINDS} == KINDS
    return found


def test_damaged_files_are_refused_by_the_documented_error(file, tmp_path):
    path, rng = tmp_path / "damaged.tflite", np.random.default_rng(19)
    whole = outcome(path, file)
    assert whole["weights"] == 32
    wrong = 0
    for _ in range(400):
        changed = np.frombuffer(file, np.uint8).copy()
        places = rng.integers(0, changed.size, rng.integers(1, 40))
        changed[places] = rng.integers(0, 256, places.size)
        wrong += outcome(path, changed.tobytes()) is None
    assert wrong > 50  # the others were damaged elsewhere
    for _ in range(100):
        cut = file[: rng.integers(0, len(file))]
        outcome(path, cut)
    # Offsets stand in words of four bytes: each of them to the end, and far beyond.
    for place in range(0, min(len(file), 800), 4):
        for offset in (len(file), 2**31 - 1, 2**32 - 1):
            word = offset.to_bytes(4, "little")
            outcome(path, file[:place] + word + file[place + 4 :])


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"[]", b"null", b"3", b"{}", b'{"version":', b"\xff", b"[" * 100_000),
        b'{"version": 1, "candidate": "csr", "weights": 3, "nonzero": 1}',
        b'{"version": "1", "candidate": "csr", "weights": "3", "nonzero": 1}',
    ],
)
def test_what_a_file_says_is_checked(file, tmp_path, text):
    flat = FlatModel(file)
    [entry] = [e for e in flat.model.metadata if e.name == b"scl_keras"]
    flat.model.buffers[entry.buffer].data = np.frombuffer(text, np.uint8)
    assert outcome(tmp_path / "says.tflite", flat.to_bytes()) is None


def test_facts_that_are_new_are_read_too(file, tmp_path):
    facts = {"candidate": "csr", "weights": 3, "nonzero": 1, "news": [1]}
    found = outcome(tmp_path / "new.tflite", add_metadata(file, facts))
    assert found["news"] == [1] and json.dumps(found)


def test_a_file_can_not_claim_entries_without_end(file, tmp_path):
    flat = FlatModel(file)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"x" * 100, 0
    flat.model.metadata = [entry] * 1001 + flat.model.metadata
    assert outcome(tmp_path / "many.tflite", flat.to_bytes()) is None


@pytest.mark.parametrize("path", [None, 3, b"x.tflite"])
def test_a_path_is_a_path(path):
    with pytest.raises(ValueError, match="`path` must be a path.*Received: path="):
        read_metadata(path)


def test_a_file_that_is_not_there_is_the_systems_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_metadata(tmp_path / "nothing.tflite")
