"""A training in a process of its own, to be killed and taken up again.

python backup_process.py METHOD CALLBACK KILL FOLDER DATA: learns masks by a method
(`scl` or `switcher`) with a callback (`keras`, `safe` or `none`), kills itself
(`mid_epoch_3`, `while_writing_3` or `never`), or else writes all variables to
FOLDER/final.npz. DATA are arrays (`known`), or of unknown length (`filtered`,
`generated`).
"""

import os
import pathlib
import signal
import sys

import keras
import numpy as np

import scl_keras
from scl_keras.datasets import load_dataset


@keras.saving.register_keras_serializable("tests")
class Mortal(keras.layers.Dropout):
    """Dropout (random state to restore) that dies when it is saved in an epoch."""

    dies = False

    def save_own_variables(self, store):
        if Mortal.dies:
            os.kill(os.getpid(), signal.SIGKILL)
        super().save_own_variables(store)


class Killer(keras.callbacks.Callback):
    """Kills in an epoch, at once or when it is saved."""

    def __init__(self, kill):
        super().__init__()
        self.kill, self.epoch = kill, None

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        Mortal.dies = self.kill == f"while_writing_{epoch}"

    def on_train_batch_end(self, batch, logs=None):
        if batch == 5 and self.kill == f"mid_epoch_{self.epoch}":
            os.kill(os.getpid(), signal.SIGKILL)


def training_data(kind):
    """The arguments of `fit` for 320 images, or those that a filter leaves of them."""
    data = load_dataset("digits")
    x, y = data.x_train[:320], data.y_train[:320]
    if kind == "known":
        return {"x": x, "y": y}
    import tensorflow as tf  # JAX and PyTorch take its data, too

    if kind == "filtered":
        pairs = tf.data.Dataset.from_tensor_slices((x, y))
        return {"x": pairs.filter(lambda _, label: label % 5 > 0).batch(16)}

    def batches():
        for start in range(0, 320, 32):
            yield x[start : start + 32], y[start : start + 32]

    signature = (tf.TensorSpec((32, 8, 8, 1)), tf.TensorSpec((32,), y.dtype))
    return {"x": tf.data.Dataset.from_generator(batches, output_signature=signature)}


def main(method, callback, kill, folder, data):
    """Trains, from the backup if there is one."""
    folder = pathlib.Path(folder)
    keras.utils.set_random_seed(1)
    inputs = keras.Input((8, 8, 1))
    x = keras.layers.Flatten()(inputs)
    x = scl_keras.MaskedDense(32, activation="relu")(x)
    x = Mortal(0.2, seed=1)(x)  # on PyTorch, the state of others isn't Keras's
    kind = {"scl": scl_keras.SCLModel, "switcher": scl_keras.SwitcherModel}[method]
    model = kind(inputs, scl_keras.MaskedDense(10)(x))
    schedule = keras.optimizers.schedules.CosineDecay(0.01, 70)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    own = {}
    if (method, data) == ("scl", "known"):
        own["mask_optimizer"] = keras.optimizers.SGD(3e-3, momentum=0.9)
    model.compile(keras.optimizers.Adam(schedule), loss, **own)
    backup = {
        "keras": [keras.callbacks.BackupAndRestore(folder / "backup")],
        "safe": [scl_keras.SafeBackup(folder / "backup")],
        "none": [],
    }[callback]
    model.fit(
        **training_data(data),
        epochs=7,
        shuffle=False,
        verbose=0,
        callbacks=[scl_keras.TargetSparsity(0.9, by_epoch=5), Killer(kill), *backup],
    )
    variables = model.variables + model.optimizer.variables
    values = {f"{i}_{v.name}": v.numpy() for i, v in enumerate(variables)}
    np.savez(folder / "final.npz", **values)


if __name__ == "__main__":
    main(*sys.argv[1:])
