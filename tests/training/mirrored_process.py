"""Trains on two logical CPU devices and on one; prints how far the two are apart.

Arguments: the `CASES`.
"""

import contextlib
import json
import sys

import tensorflow as tf

(CPU,) = tf.config.list_physical_devices("CPU")
tf.config.set_logical_device_configuration(
    CPU, [tf.config.LogicalDeviceConfiguration()] * 2
)

import keras  # noqa: E402
import numpy as np  # noqa: E402

import scl_keras  # noqa: E402
from scl_keras.datasets import load_dataset  # noqa: E402

# (Keras can't accumulate gradients on several devices.)
CASES = {
    "network": {"normalization": "network"},
    "feature": {"normalization": "feature"},
    "none": {"normalization": None},
    "momentum": {"mask_optimizer": lambda: keras.optimizers.SGD(3e-3, momentum=0.9)},
    "bad batch": {"bad": True},
    "target": {"callbacks": lambda: [scl_keras.TargetSparsity(0.9, by_epoch=2)]},
}


def train(
    strategy,
    normalization="network",
    mask_optimizer=None,
    callbacks=list,
    bad=False,
    kind=scl_keras.SCLModel,
    **arguments,
):
    """All variables after three epochs."""
    keras.utils.set_random_seed(0)
    data = load_dataset("digits")
    x, y = data.x_train[:256].copy(), data.y_train[:256]
    if bad:
        x[40] = np.nan  # seen by one of the two devices
    with strategy.scope() if strategy else contextlib.nullcontext():
        inputs = keras.Input((8, 8, 1))
        hidden = scl_keras.MaskedConv2D(4, 3, activation="relu", mask_initializer=0.01)
        last = scl_keras.MaskedDense(10, mask_initializer=0.01)
        outputs = last(keras.layers.Flatten()(hidden(inputs)))
        model = kind(inputs, outputs)
        if mask_optimizer:
            arguments["mask_optimizer"] = mask_optimizer()
        model.compile(
            keras.optimizers.Adam(0.01),
            keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            connection_cost=0.3,
            normalization=normalization,
            **arguments,
        )
    options = {"batch_size": 32, "epochs": 3, "shuffle": False, "verbose": 0}
    model.fit(x, y, callbacks=callbacks(), **options)
    skipped = int(model.scl_optimizer.skipped_updates.numpy())
    return [v.numpy() for v in model.variables], skipped


def main():
    """Prints differences and skipped batches by case, and how a switcher is refused."""
    report = {}
    # One for all: each would number its collective operations from the same, and
    # TensorFlow remembers what shape a number had.
    mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    for name in sys.argv[1:]:
        arguments = CASES[name]
        one, skipped = train(None, **arguments)
        two, also_skipped = train(mirrored, **arguments)
        pairs = zip(one, two, strict=True)
        difference = max(float(np.abs(a - b).max()) for a, b in pairs)
        kept = [int((a > 0).sum()) for a in one]
        report[name] = [difference, skipped, also_skipped, kept]
    try:
        train(tf.distribute.MirroredStrategy(), kind=scl_keras.SwitcherModel)
        refusal = None
    except ValueError as error:
        refusal = str(error)
    print(json.dumps([report, refusal]))


if __name__ == "__main__":
    main()
