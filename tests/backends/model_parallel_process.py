"""Trains on one device, and on two that share each kernel; prints what came of it.

JSON: the largest difference of weights and masks, and by path how each is spread.
"""

import json
import os

os.environ["KERAS_BACKEND"] = "jax"
os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=2"

import keras
import numpy as np
from keras import distribution, layers

import scl_keras


def spread():
    """Columns of three kernels, and rows of the mask of one of them, on each device."""
    mesh = distribution.DeviceMesh(
        (1, 2), ["batch", "model"], distribution.list_devices()
    )
    layouts = distribution.LayoutMap(mesh)
    for name in ("conv", "hidden", "blocks"):
        layouts[f".*{name}/kernel"] = (None,) * (3 if name == "conv" else 1) + (
            "model",
        )
    layouts[".*named/kernel"] = (None, "model")
    layouts[".*named/kernel_mask/mask"] = ("model", None)
    parallel = distribution.ModelParallel(layout_map=layouts, batch_dim_name="batch")
    distribution.set_distribution(parallel)


def train():
    """The trained model."""
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [
            keras.Input((6, 6, 1)),
            layers.Conv2D(8, 3, name="conv", activation="relu"),
            layers.Flatten(),
            layers.Dense(32, name="hidden", activation="relu"),
            layers.Dense(16, name="named", activation="relu"),
            layers.Dense(16, name="blocks", activation="relu"),
            layers.Dense(4, name="last"),
        ]
    )
    granularity = {"conv": "channel", "blocks": scl_keras.Block(4)}
    scl_keras.sparsify(model, granularity=granularity, verbose=0)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(128, 6, 6, 1)), rng.integers(0, 4, 128)
    target = scl_keras.TargetSparsity(0.6)
    model.fit(x, y, epochs=3, shuffle=False, verbose=0, callbacks=[target])
    return model


one = train()
spread()
two = train()
pairs = zip(one.get_weights(), two.get_weights(), strict=True)
spread_as = {
    "/".join(v.path.split("/")[1:]): list(v.value.sharding.spec) for v in two.variables
}
print(json.dumps([max(float(np.abs(a - b).max()) for a, b in pairs), spread_as]))
