import functools
import importlib.util
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from scl_keras import MaskedDense, SafeBackup, SCLSequential
from scl_keras.callbacks.sealed_folder import fault_of, seal

SCRIPT = pathlib.Path(__file__).with_name("backup_process.py")


def _run(*arguments, backend="tensorflow"):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    settings = {"KERAS_BACKEND": backend, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}
    return subprocess.run(
        command, env=os.environ | settings, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    @functools.cache
    def train(method, data, backend):
        folder = tmp_path_factory.mktemp("uninterrupted")
        result = _run(method, "none", "never", folder, data, backend=backend)
        assert result.returncode == 0, result.stderr
        return dict(np.load(folder / "final.npz"))

    return train


def _slow(*arguments):
    return pytest.param(*arguments, marks=pytest.mark.slow)


@pytest.mark.parametrize(
    ("method", "callback", "kill", "data", "backend"),
    [
        _slow("scl", "keras", "mid_epoch_3", "known", "tensorflow"),
        _slow("scl", "safe", "mid_epoch_3", "known", "tensorflow"),
        ("scl", "safe", "while_writing_3", "known", "tensorflow"),
        _slow("switcher", "keras", "mid_epoch_3", "known", "tensorflow"),
        # Their length is counted in the first epoch, and has to be remembered.
        _slow("scl", "safe", "mid_epoch_0", "filtered", "tensorflow"),
        ("scl", "safe", "mid_epoch_1", "filtered", "tensorflow"),
        _slow("scl", "safe", "mid_epoch_3", "filtered", "tensorflow"),
        _slow("scl", "safe", "mid_epoch_1", "generated", "tensorflow"),
        _slow("scl", "safe", "mid_epoch_1", "generated", "jax"),
        _slow("scl", "safe", "mid_epoch_3", "generated", "jax"),
        _slow("scl", "safe", "mid_epoch_3", "filtered", "torch"),
        _slow("switcher", "safe", "mid_epoch_3", "filtered", "tensorflow"),
    ],
)
def test_a_killed_training_is_resumed_bit_for_bit(
    method, callback, kill, data, backend, uninterrupted, tmp_path
):
    if importlib.util.find_spec(backend) is None:
        pytest.skip(f"{backend} is not installed: pip install '.[backends]'")
    killed = _run(method, callback, kill, tmp_path, data, backend=backend)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "final.npz").exists()
    if kill == "while_writing_3":
        names = {path.name for path in (tmp_path / "backup").iterdir()}
        assert names == {"unfinished", "epoch_000002", "epoch_000003"}
    resumed = _run(method, callback, "never", tmp_path, data, backend=backend)
    assert resumed.returncode == 0, resumed.stderr
    final = np.load(tmp_path / "final.npz")
    expected = uninterrupted(method, data, backend)
    assert set(final) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(final[name], value, err_msg=name)
    assert not (tmp_path / "backup").exists()


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt


def _fit(folder, *callbacks, units=4, optimizer="adam", **arguments):
    keras.utils.set_random_seed(0)
    model = SCLSequential([keras.Input((8,)), MaskedDense(units), MaskedDense(2)])
    model.compile(optimizer, "mse")
    epochs = []

    class Seen(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            epochs.append(epoch)

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 8)), rng.normal(size=(64, 2))
    callbacks = [Seen(), *callbacks, SafeBackup(folder, **arguments)]
    model.fit(x, y, epochs=5, shuffle=False, verbose=0, callbacks=callbacks)
    return epochs, model.get_weights()


def _interrupted(folder, **arguments):
    with pytest.raises(KeyboardInterrupt):
        _fit(folder, Stop(), **arguments)
    return sorted(folder.glob("epoch_*"))


def _truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[len(content) * 3 // 4] ^= 1
    path.write_bytes(content)


WEIGHTS, METADATA = "latest.weights.h5", "training_metadata.json"
DAMAGE = {
    "truncated weights": lambda x: _truncate(x / WEIGHTS),
    "truncated metadata": lambda x: _truncate(x / METADATA),
    "no weights": lambda x: (x / WEIGHTS).unlink(),
    "no metadata": lambda x: (x / METADATA).unlink(),
    "no checksums": lambda x: (x / "checksums.json").unlink(),
    "flipped bit in weights": lambda x: _flip_a_bit(x / WEIGHTS),
    "flipped bit in metadata": lambda x: _flip_a_bit(x / METADATA),
    "flipped bit in checksums": lambda x: _flip_a_bit(x / "checksums.json"),
    "truncated checksums": lambda x: _truncate(x / "checksums.json"),
    "empty checksums": lambda x: (x / "checksums.json").write_text("{}"),
    "checksums of another kind": lambda x: (x / "checksums.json").write_text("[1]"),
    "metadata of another kind": lambda x: (x / METADATA).write_text("[]"),
    "no text": lambda x: (x / METADATA).write_bytes(b"\xff\xfe\x00"),
    "empty": lambda x: [file.unlink() for file in x.iterdir()],
}


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory):
    folder = tmp_path_factory.mktemp("interrupted")
    backups = _interrupted(folder / "backup")
    assert [path.name for path in backups] == ["epoch_000002", "epoch_000003"]
    return folder / "backup", _fit(folder / "whole")[1]


@pytest.mark.parametrize("damage", DAMAGE)
def test_of_damaged_backups_the_newest_that_is_whole_serves(
    damage, interrupted, tmp_path
):
    backups, expected = interrupted
    folder = tmp_path / "backup"
    shutil.copytree(backups, folder)
    newest = folder / "epoch_000003"
    DAMAGE[damage](newest)
    with pytest.warns(UserWarning, match="goes on from .*epoch_000002") as told:
        epochs, weights = _fit(folder)
    (text,) = [str(w.message) for w in told if "SafeBackup" in str(w.message)]
    assert f"{newest}: it" in text
    assert epochs == [2, 3, 4]
    for a, b in zip(expected, weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert not folder.exists()


@pytest.mark.parametrize("content", ["[]", "null", '{"epoch": "x"}', '{"epoch": 2}'])
def test_metadata_that_make_no_sense_are_told_even_with_a_checksum(content, tmp_path):
    folder = tmp_path / "epoch_000003"
    folder.mkdir()
    (folder / METADATA).write_text(content)
    (folder / WEIGHTS).write_bytes(b"anything")
    seal(folder)
    assert "doesn't say epoch 3" in fault_of(folder)
    (folder / METADATA).write_text('{"epoch": 3, "batch": 0}')
    seal(folder)
    assert fault_of(folder) is None


@pytest.mark.parametrize("kind", ["folder", "file", "copy"])
def test_strays_are_passed_over_and_left_alone(kind, interrupted, tmp_path):
    backups, expected = interrupted
    folder = tmp_path / "backup"
    shutil.copytree(backups, folder)
    name = "epoch_zzz" if kind == "folder" else "epoch_000009"
    stray = folder / name
    if kind == "folder":
        stray.mkdir()
    elif kind == "file":
        stray.write_text("notes")
    else:  # says itself that it is of another epoch
        shutil.copytree(folder / "epoch_000002", stray)
    with pytest.warns(UserWarning, match=f"(?s)goes on from .*epoch_000003.*{name}"):
        epochs, weights = _fit(folder, keep=1, delete_when_done=False)
    assert epochs == [3, 4]
    for a, b in zip(expected, weights, strict=True):
        np.testing.assert_array_equal(a, b)
    assert {path.name for path in folder.iterdir()} == {"epoch_000005", name}


def test_what_is_newer_and_damaged_costs_no_whole_backup(interrupted, tmp_path):
    folder = tmp_path / "backup"
    shutil.copytree(interrupted[0], folder)
    shutil.copytree(folder / "epoch_000003", folder / "epoch_000005")
    (folder / "epoch_000003" / WEIGHTS).unlink()

    class StopBeforeTheLast(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            if epoch == 4:
                raise KeyboardInterrupt

    with (
        pytest.warns(UserWarning, match="(?s)epoch_000002.*epoch_000005.*epoch_000003"),
        pytest.raises(KeyboardInterrupt),
    ):
        _fit(folder, StopBeforeTheLast(), keep=1)
    with pytest.warns(UserWarning, match="(?s)goes on from .*epoch_000004"):
        epochs, weights = _fit(folder, keep=1)
    assert epochs == [4]
    for a, b in zip(interrupted[1], weights, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("damage", ["truncated weights", "empty", "no checksums"])
def test_if_none_is_whole_it_does_not_start_afresh_in_silence(
    damage, interrupted, tmp_path
):
    folder = tmp_path / "backup"
    shutil.copytree(interrupted[0], folder)
    for backup in folder.iterdir():
        DAMAGE[damage](backup)
    message = "(?s)No backup .*can be restored.*epoch_000003: it.*epoch_000002: it"
    with pytest.raises(ValueError, match=message):
        _fit(folder)
    assert len(list(folder.iterdir())) == 2


def test_an_optimizer_that_would_stay_as_it_is_is_refused(interrupted, tmp_path):
    folder = tmp_path / "backup"
    shutil.copytree(interrupted[0], folder)
    message = "(?s)not one of this model.*Skipping variable"
    with pytest.raises(ValueError, match=message):
        _fit(folder, optimizer="sgd")


def test_another_model_is_refused(tmp_path):
    _interrupted(tmp_path)
    with pytest.raises(ValueError, match="give the model that was trained"):
        _fit(tmp_path, units=5)


@pytest.mark.slow
@pytest.mark.parametrize("keep", [1, 3])
def test_it_keeps_as_many_as_asked_and_removes_them_when_done(keep, tmp_path):
    assert len(_interrupted(tmp_path / "backup", keep=keep)) == keep
    _fit(tmp_path / "backup", keep=keep, delete_when_done=False)
    assert len(list((tmp_path / "backup").iterdir())) == keep
    _fit(tmp_path / "backup", keep=keep)
    assert not (tmp_path / "backup").exists()


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="keep=0"):
        SafeBackup("backup", keep=0)
