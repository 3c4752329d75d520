import functools
import pathlib
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest

from scl_keras import MaskedDense, SafeBackup, SCLSequential

SCRIPT = pathlib.Path(__file__).with_name("backup_process.py")


def _run(*arguments):
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    @functools.cache
    def train(method):
        folder = tmp_path_factory.mktemp("uninterrupted")
        result = _run(method, "none", "never", folder)
        assert result.returncode == 0, result.stderr
        return dict(np.load(folder / "final.npz"))

    return train


@pytest.mark.parametrize(
    ("method", "callback", "kill"),
    [
        pytest.param("scl", "keras", "mid_epoch", marks=pytest.mark.slow),
        pytest.param("scl", "safe", "mid_epoch", marks=pytest.mark.slow),
        ("scl", "safe", "while_writing"),
        pytest.param("switcher", "keras", "mid_epoch", marks=pytest.mark.slow),
    ],
)
def test_a_killed_training_is_resumed_bit_for_bit(
    method, callback, kill, uninterrupted, tmp_path
):
    killed = _run(method, callback, kill, tmp_path)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "final.npz").exists()
    if kill == "while_writing":
        names = {path.name for path in (tmp_path / "backup").iterdir()}
        assert names == {"unfinished", "epoch_000002", "epoch_000003"}
    resumed = _run(method, callback, "never", tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    final = np.load(tmp_path / "final.npz")
    expected = uninterrupted(method)
    assert set(final) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(final[name], value, err_msg=name)
    assert not (tmp_path / "backup").exists()


class Stop(keras.callbacks.Callback):
    def on_epoch_begin(self, epoch, logs=None):
        if epoch == 3:
            raise KeyboardInterrupt


def _fit(folder, *callbacks, units=4, **arguments):
    keras.utils.set_random_seed(0)
    model = SCLSequential([keras.Input((8,)), MaskedDense(units), MaskedDense(2)])
    model.compile("adam", "mse")
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


@pytest.mark.parametrize("suffix", [".h5", ".json"])
def test_a_broken_backup_is_told_and_the_one_before_serves(suffix, tmp_path, capsys):
    _, whole = _fit(tmp_path / "whole")
    backups = _interrupted(tmp_path / "backup")
    assert [path.name for path in backups] == ["epoch_000002", "epoch_000003"]
    (file,) = backups[-1].glob(f"*{suffix}")
    _truncate(file)
    epochs, weights = _fit(tmp_path / "backup")
    assert f"{backups[-1]} can't be read" in capsys.readouterr().out
    assert epochs == [2, 3, 4]
    for a, b in zip(whole, weights, strict=True):
        np.testing.assert_array_equal(a, b)


def test_if_none_can_be_read_it_does_not_start_afresh_in_silence(tmp_path):
    for folder in _interrupted(tmp_path):
        for file in folder.glob("*.h5"):
            _truncate(file)
    with pytest.raises(ValueError, match="(?s)No backup can be restored.*epoch_000003"):
        _fit(tmp_path)


def test_another_model_is_refused(tmp_path):
    _interrupted(tmp_path)
    with pytest.raises(ValueError, match="give the model that was trained"):
        _fit(tmp_path, units=5)


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
