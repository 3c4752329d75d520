"""The zoo: what is in it is what its cards say, and is found by name."""

import io
import json
import pathlib
import shutil
import tracemalloc
import zipfile

import numpy as np
import pytest
import zoo_entry
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import scl_keras
from scl_keras import zoo
from scl_keras.datasets import load_dataset
from scl_keras.graph.kernels import prunable_kernels

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "saved_models"
NAME = "digits_lenet_300_100"


def data_of(name):
    """The data set of an entry, or None with the reason."""
    try:
        return load_dataset(zoo.load_card(name, FOLDER)["dataset"]), ""
    except FileNotFoundError as error:
        return None, str(error)


@pytest.mark.slow
@pytest.mark.parametrize("name", zoo.names(FOLDER))
def test_each_entry_is_what_its_card_says(name):
    data, reason = data_of(name)
    checks = zoo_entry.verify(name, FOLDER, data)
    assert len(checks) == (21 if data else 19)
    assert not [check for check in checks if not check.passed]
    if data is None:
        pytest.skip(f"all but the accuracies: {reason}")


@pytest.mark.parametrize("name", zoo.names(FOLDER))
def test_each_entry_is_small_and_stock(name):
    files = sorted(p.name for p in FOLDER.glob(f"{name}.*"))
    ends = (".json", ".keras", ".masks.npz", ".md", ".tflite")
    assert files == sorted(name + end for end in ends)
    assert all((FOLDER / file).stat().st_size < 2_000_000 for file in files)
    with zipfile.ZipFile(FOLDER / f"{name}.keras") as file:
        assert b"scl_keras" not in file.read("config.json")


def test_the_index_has_every_entry(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "z")
    zoo_entry.write_index(tmp_path / "z")
    text = (FOLDER / "README.md").read_text()
    assert (tmp_path / "z" / "README.md").read_text() == text
    assert all(f"[{name}]({name}.md)" in text for name in zoo.names(FOLDER))


@pytest.fixture
def copied(tmp_path):
    for path in FOLDER.glob(f"{NAME}.*"):
        shutil.copyfile(path, tmp_path / path.name)
    return tmp_path


def wrong(folder, data=None):
    return {c.what for c in zoo_entry.verify(NAME, folder, data) if not c.passed}


def test_a_changed_weight_is_noticed(copied):
    model = zoo.load(NAME, copied)
    kernel = model.get_layer("dense_1").kernel
    values = kernel.numpy()
    values[values == 0] = 0.1
    kernel.assign(values)
    model.save(copied / f"{NAME}.keras")
    found = wrong(copied, load_dataset("digits"))
    assert {".keras sha256", "masks", "kept", "direct_compression"} <= found
    assert "accuracy" in found and "tflite_accuracy" not in found


def test_a_changed_mask_is_noticed(copied):
    masks = zoo.load_masks(NAME, copied)
    masks["logits/kernel"][0, 0] ^= True
    zoo.save_masks(copied / f"{NAME}.masks.npz", masks)
    assert {"masks", ".masks.npz sha256"} <= wrong(copied)


@pytest.mark.parametrize(
    ("figure", "value", "names"),
    [
        ("accuracy", 0.9, {"accuracy"}),
        ("tflite_accuracy", 0.9, {"tflite_accuracy"}),
        ("effective", 7, {"effective"}),
    ],
)
def test_a_changed_card_is_noticed(figure, value, names, copied):
    path = copied / f"{NAME}.json"
    card = json.loads(path.read_text())
    assert card[figure] != value
    path.write_text(json.dumps({**card, figure: value}))
    found = wrong(copied, load_dataset("digits"))
    assert found == {*names, "card to read"}


def test_masks_put_on_a_loaded_model_can_be_trained_on():
    masks = zoo.load_masks(NAME, FOLDER)
    sparse = scl_keras.sparsify(zoo.load(NAME, FOLDER), ste=None)
    left = scl_keras.summary(sparse, print_fn=None)
    assert left.kept == left.connections
    for kernel in prunable_kernels(sparse):
        kernel.mask.assign(masks[kernel.label])
    card = zoo.load_card(NAME, FOLDER)
    left = scl_keras.summary(sparse, print_fn=None)
    assert (left.kept, left.effective) == (card["kept"], card["effective"])


@given(
    st.dictionaries(
        st.sampled_from(["a/kernel", "b/kernel", "model/c/kernel", "kernel"]),
        hnp.arrays(bool, hnp.array_shapes(max_dims=4, max_side=7)),
        min_size=1,
    )
)
def test_masks_come_back_as_they_were(tmp_path_factory, masks):
    folder = tmp_path_factory.mktemp("zoo")
    zoo.save_masks(folder / "n.masks.npz", masks)
    (folder / "n.json").write_text("{}")
    found = zoo.load_masks("n", folder)
    assert found.keys() == masks.keys()
    for label, mask in masks.items():
        assert found[label].dtype == bool
        np.testing.assert_array_equal(found[label], mask)


def entry_with(folder, **arrays):
    """The masks of an entry whose file has these arrays."""
    np.savez_compressed(folder / "n.masks.npz", **arrays)
    (folder / "n.json").write_text("{}")
    return zoo.load_masks("n", folder)


BITS = np.array([0b10100000], "uint8")


@pytest.mark.parametrize(
    ("bits", "shape"),
    [
        (BITS, [3_000_000_000]),
        (BITS, [2**62, 4]),
        (BITS, [-1]),
        (BITS, [-2, -4]),
        (BITS, [9]),
        (BITS, [0]),
        (BITS, [0, 3_000_000_000]),
        (np.zeros(2, "uint8"), [8]),
        (BITS.astype("int64"), [8]),
        (BITS.astype(bool), [8]),
        (BITS.reshape(1, 1), [8]),
        (BITS, [3.0]),
        (BITS, [[3]]),
        (BITS, ["3"]),
        (BITS, np.array([None])),
    ],
)
def test_lengths_are_compared_before_memory_is_taken(tmp_path, bits, shape):
    assert entry_with(tmp_path, **{"a": BITS, "a/shape": [3]})["a"].sum() == 2
    tracemalloc.start()
    with pytest.raises(ValueError, match="that `save_masks` wrote. Received: "):
        entry_with(tmp_path, **{"a": bits, "a/shape": shape})
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 50_000_000


def test_a_mask_without_bits_is_not_left_out(tmp_path):
    (tmp_path / "n.json").write_text("{}")
    np.savez_compressed(tmp_path / "n.masks.npz", **{"a/shape": np.array([3])})
    with pytest.raises(ValueError, match="'a' has a shape and no bits"):
        zoo.load_masks("n", tmp_path)


@pytest.mark.parametrize("text", ["{]", "", "[1]", "null", "\udcff"])
def test_a_damaged_card_is_refused(text, tmp_path):
    path = tmp_path / "n.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(ValueError, match="must be a JSON object. Received: .*n.json"):
        zoo.load_card("n", tmp_path)


def test_a_header_can_not_claim_more_than_the_file_has(tmp_path):
    entry_with(tmp_path, **{"a": np.zeros(100, "uint8"), "a/shape": [800]})
    path, claim = tmp_path / "n.masks.npz", io.BytesIO()
    header = {"descr": "|u1", "fortran_order": False, "shape": (3_000_000_000,)}
    np.lib.format.write_array_header_1_0(claim, header)
    with zipfile.ZipFile(path) as file:
        shape = file.read("a/shape.npy")
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("a.npy", claim.getvalue() + bytes(100))
        file.writestr("a/shape.npy", shape)
    with pytest.raises(ValueError, match="3000000000"):
        zoo.load_masks("n", tmp_path)


def test_damaged_masks_are_refused_by_the_documented_error(copied):
    path, rng = copied / f"{NAME}.masks.npz", np.random.default_rng(19)
    whole, wrong = path.read_bytes(), 0
    for _ in range(200):
        changed = np.frombuffer(whole, np.uint8).copy()
        places = rng.integers(0, changed.size, rng.integers(1, 40))
        changed[places] = rng.integers(0, 256, places.size)
        path.write_bytes(changed.tobytes()[: rng.choice([changed.size, 10**9])])
        try:
            zoo.load_masks(NAME, copied)
        except ValueError as error:
            assert "that `save_masks` wrote" in str(error)
            wrong += 1
    assert wrong > 100
    for contents in (b"", b"PK", whole[:1000], np.ones(3).tobytes()):
        path.write_bytes(contents)
        with pytest.raises(ValueError, match="that `save_masks` wrote"):
            zoo.load_masks(NAME, copied)


def test_the_folder_is_that_of_the_argument_the_environment_or_the_clone(
    tmp_path, monkeypatch
):
    monkeypatch.delenv("SCL_KERAS_ZOO", raising=False)
    assert zoo.names() == zoo.names(FOLDER)
    mine, yours = tmp_path / "mine", tmp_path / "yours"
    for folder in (mine, yours):
        folder.mkdir()
        (folder / f"{folder.name}.json").write_text("{}")
    monkeypatch.setenv("SCL_KERAS_ZOO", str(mine))
    assert zoo.names() == ["mine"]
    assert zoo.names(yours) == ["yours"]
    assert zoo.path_of("mine", ".keras") == mine / "mine.keras"


def test_mistakes_say_what_there_is(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=f"{NAME}.*Received: name='nothing'"):
        zoo.load("nothing", FOLDER)
    with pytest.raises(ValueError, match=r"\.keras.*Received: suffix='\.h5'"):
        zoo.path_of(NAME, ".h5", FOLDER)
    with pytest.raises(FileNotFoundError, match="folder='nowhere'"):
        zoo.names("nowhere")
    monkeypatch.setenv("SCL_KERAS_ZOO", str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match="SCL_KERAS_ZOO='.*gone'"):
        zoo.names()
    with pytest.raises(ValueError, match="none at all"):
        zoo.load(NAME, tmp_path)
