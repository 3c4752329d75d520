"""Backups of a training that no kill can spoil."""

import math
import os
import pathlib
import shutil
import warnings

import keras
import numpy as np

from scl_keras import checks
from scl_keras.callbacks.fit_listener import FitListener
from scl_keras.callbacks.sealed_folder import epoch_of, fault_of, seal
from scl_keras.types import Logs

_UNFINISHED = "unfinished"


class SafeBackup(FitListener):
    """`keras.callbacks.BackupAndRestore` that a kill at any moment can't harm.

    Keras's own callback overwrites the previous weights and epoch one after the other.
    If the process is killed meanwhile, it leaves a truncated file, or the weights of
    one epoch with the number of another. Here each backup is written to a folder of its
    own, with checksums of its files, and gets its name when it is complete. The newest
    backup whose files are all there and match their checksums is restored. If newer
    ones are passed over, a warning says which, and why.

    A resumed `fit` continues as if it had not been interrupted, bit for bit. It
    restores weights, masks, and the states of both optimizers and of random layers. It
    also restores the states of callbacks that have `backup_state()`, which returns a
    dict of arrays, and `restore_state(arrays)`, as `TargetAccuracy` does.

    Not saved are the states of Keras's own callbacks, such as `EarlyStopping`, and the
    order in which `fit` shuffles examples. If that order matters, shuffle by epoch in a
    `keras.utils.PyDataset`, or pass `shuffle=False`. On PyTorch, give `Dropout` a seed:
    without one, Keras uses PyTorch's own generator. List this callback last: it saves
    what the callbacks before it did at the end of the epoch.

    Args:
        backup_dir: Folder for the backups of one training.
        keep: Number of backups to keep, at least 1.
        delete_when_done: Whether to remove the backups when `fit` has finished, as
            Keras does, so that the next `fit` starts afresh.

    Raises:
        ValueError: If `backup_dir` isn't a path or `keep` is less than 1. When `fit`
            begins: if there are backups but none is whole, or if the newest whole one
            isn't one of this model.

    Example:

    ```python
    model.fit(x, y, epochs=9, callbacks=[TargetSparsity(0.98), SafeBackup("backup")])
    ```
    """

    def __init__(
        self,
        backup_dir: str | os.PathLike[str],
        keep: int = 2,
        delete_when_done: bool = True,
    ) -> None:
        super().__init__()
        self.backup_dir = pathlib.Path(checks.path("backup_dir", backup_dir))
        self.keep = checks.integer("keep", keep, "a whole number >= 1", least=1)
        self.delete_when_done = delete_when_done

    def on_train_begin(self, logs: Logs = None) -> None:
        """Restores the newest backup that is whole."""
        faults: list[str] = []
        for folder in self._found():
            fault = fault_of(folder)
            if fault is None:
                if faults:
                    self._warn(folder, faults)
                self._restore(folder)
                return
            faults.append(f"{folder}: {fault}")
        if faults:
            raise ValueError(
                f"No backup in {self.backup_dir} can be restored. Remove the folder to "
                "start afresh. Received:\n" + "\n".join(faults)
            )

    def _with_states(self):
        """Callbacks with a state of their own, by the names of their files."""
        return [
            (f"callback_{i}_{type(callback).__name__}.npz", callback)
            for i, callback in enumerate(self._others)
            if hasattr(callback, "backup_state")
        ]

    def _warn(self, folder, faults):
        warnings.warn(
            f"`SafeBackup` goes on from {folder}, and has passed over what isn't "
            "whole:\n" + "\n".join(faults),
            stacklevel=3,
        )

    def _restore(self, folder):
        with warnings.catch_warnings():
            # Keras only warns where it leaves an optimizer as it is.
            warnings.filterwarnings("error", message="Skipping variable loading")
            try:
                self._backup_in(folder).on_train_begin()
                for name, callback in self._with_states():
                    with np.load(folder / name) as arrays:
                        callback.restore_state(dict(arrays))
            # What h5py raises, and Keras for other models' and for unbuilt ones.
            except (OSError, ValueError, KeyError, RuntimeError, UserWarning) as error:
                raise ValueError(
                    f"Backup {folder} is whole, but not one of this model: give the "
                    "model that was trained, built and compiled as it was, or another "
                    f"`backup_dir`. Received: {self.model!r}, and {error}"
                ) from error

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Writes a backup, then removes those that are too old."""
        complete = self.backup_dir / f"epoch_{epoch + 1:06d}"
        self._remove(complete)  # one that was passed over
        unfinished = self.backup_dir / _UNFINISHED
        _delete(unfinished)
        self._backup_in(unfinished).on_epoch_end(epoch)
        for name, callback in self._with_states():
            np.savez(unfinished / name, **callback.backup_state())
        seal(unfinished)
        unfinished.rename(complete)
        # Newer ones may be left, which were passed over.
        epochs = range(epoch + 2)
        written = [folder for folder in self._found() if epoch_of(folder) in epochs]
        for folder in written[self.keep :]:
            self._remove(folder)

    def on_train_end(self, logs: Logs = None) -> None:
        """Removes the backups of a training that is complete."""
        if not self.delete_when_done:
            return
        for folder in reversed(self._found()):  # the oldest first
            if epoch_of(folder) is not None:
                self._remove(folder)
        _delete(self.backup_dir / _UNFINISHED)
        if self.backup_dir.is_dir() and not any(self.backup_dir.iterdir()):
            self.backup_dir.rmdir()

    def _remove(self, folder):
        """Removes a backup, of which a kill meanwhile leaves all or nothing."""
        if folder.exists():
            unfinished = self.backup_dir / _UNFINISHED
            _delete(unfinished)
            folder.rename(unfinished)
            _delete(unfinished)

    def _found(self):
        """All that is called a backup, the newest first, strays before all."""

        def age(folder):
            epoch = epoch_of(folder)
            return math.inf if epoch is None else epoch, folder.name

        return sorted(self.backup_dir.glob("epoch_*"), key=age, reverse=True)

    def _backup_in(self, folder):
        backup = keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)
        backup.set_model(self.model)
        return backup


def _delete(path):
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
