"""Backups of a training that no kill can spoil."""

import os
import pathlib
import shutil

import keras

from scl_keras import checks
from scl_keras.types import Logs

_UNFINISHED = "unfinished"


class SafeBackup(keras.callbacks.Callback):
    """`keras.callbacks.BackupAndRestore` that a kill at any moment can't harm.

    Keras's own writes weights and epoch one after the other over the previous ones: a
    process killed meanwhile leaves a truncated file, or the weights of one epoch with
    the number of another. Here each backup is written to a folder of its own, which
    gets its name when it is complete. If the newest can't be read, the one before
    serves.

    A resumed `fit` goes on as if it had not been interrupted, bit by bit: weights,
    masks, the states of both optimizers and of random layers are restored. What Keras
    does not save are the state of callbacks such as `EarlyStopping` and the order of
    examples that `fit` shuffles itself: shuffle by epoch in a `keras.utils.PyDataset`,
    or take `shuffle=False`, if it matters. List it last: it saves what callbacks before
    it did at the end of the epoch.

    Args:
        backup_dir: Folder for the backups; one a training.
        keep: Number of backups to keep, at least 1.
        delete_when_done: Whether the folder is removed when `fit` has come to its end,
            as Keras does, so that the next `fit` starts afresh.

    Raises:
        ValueError: If `backup_dir` is no path or `keep` less than 1; when `fit`
            begins, if there are backups but none can be read.

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
        """Restores the newest backup that can be read."""
        problems = []
        for folder in reversed(self._backups()):
            try:
                self._backup_in(folder).on_train_begin()
                return
            # What h5py and JSON raise for broken files, and Keras for other models'.
            except (OSError, ValueError, KeyError, RuntimeError) as error:
                problems.append(f"{folder}: {error}")
                print(f"\nBackup {folder} can't be read, taking the one before it.")
        if problems:
            raise ValueError(
                "No backup can be restored. Remove the folder to start afresh, or give "
                "the model that was trained. Received:\n" + "\n".join(problems)
            )

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Writes a backup, then removes those that are too old."""
        unfinished = self.backup_dir / _UNFINISHED
        shutil.rmtree(unfinished, ignore_errors=True)
        self._backup_in(unfinished).on_epoch_end(epoch)
        for file in unfinished.iterdir():
            with file.open("rb+") as opened:
                os.fsync(opened.fileno())
        complete = self.backup_dir / f"epoch_{epoch + 1:06d}"
        shutil.rmtree(complete, ignore_errors=True)  # one that could not be read
        unfinished.rename(complete)
        for folder in self._backups()[: -self.keep]:
            shutil.rmtree(folder)

    def on_train_end(self, logs: Logs = None) -> None:
        """Removes the backups of a training that is complete."""
        if self.delete_when_done:
            shutil.rmtree(self.backup_dir, ignore_errors=True)

    def _backups(self):
        return sorted(self.backup_dir.glob("epoch_*"))

    def _backup_in(self, folder):
        backup = keras.callbacks.BackupAndRestore(str(folder), delete_checkpoint=False)
        backup.set_model(self.model)
        return backup
