"""Trains seeded models on the backend of KERAS_BACKEND, and writes what came of them.

    KERAS_BACKEND=jax python train_process.py results.npz

Weights and data are made with NumPy, so that they are the same on every backend.
"""

import json
import sys

import keras
import loops
import numpy as np

import scl_keras

# Keras itself imports TensorFlow later, where it is installed, to serialize objects.
IMPORTED = sorted({"tensorflow", "jax", "torch"} & set(sys.modules))
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
RNG = np.random.default_rng(0)
Y = RNG.integers(0, 4, 96)
X = RNG.normal(size=(96, 6, 6, 1)) + Y[:, None, None, None] * RNG.normal(size=(6, 6, 1))
X = X.astype("float32")


def assign_weights(layer, seed=1):
    """Weights and masks that NumPy makes, about a third of them cut."""
    rng = np.random.default_rng(seed)
    for weight in layer.weights:
        if hasattr(weight, "connection_mask"):
            weight.assign(rng.uniform(-0.02, 0.04, weight.shape))
        elif len(weight.shape) > 1:
            weight.assign(rng.normal(size=weight.shape) * 0.3)


def convolutional(masked=True):
    """A network with batch normalization, regularizer and constraint."""
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.MaxPooling2D()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Flatten()(x)
    options = {"kernel_regularizer": "l2", "kernel_constraint": "max_norm"}
    x = keras.layers.Dense(12, activation="tanh", **options)(x)
    model = keras.Model(inputs, keras.layers.Dense(4)(x))
    model = scl_keras.sparsify(model, copy=True) if masked else model
    assign_weights(model)
    return model


def fit(model, x=X, epochs=3, callbacks=(), optimizer=None, **arguments):
    """Trains it, and returns its variables and logs."""
    if not getattr(model, "compiled", False):
        model.compile(optimizer or keras.optimizers.SGD(0.05), LOSS, **arguments)
    options = {"batch_size": 32, "shuffle": False, "verbose": 0}
    history = model.fit(x, Y, epochs=epochs, callbacks=list(callbacks), **options)
    found = {f"weight {i}": w.numpy() for i, w in enumerate(model.weights)}
    found |= {
        f"optimizer {v.path.split('/')[-1]} {i}": v.numpy()
        for i, v in enumerate(model.optimizer.variables)
    }
    return found | {f"log {k}": np.array(v) for k, v in history.history.items()}


def bad_batch():
    x = X.copy()
    x[40, 0] = np.nan
    found = fit(convolutional(), x, connection_cost=0.3)
    del found["log loss"]  # TensorFlow's maximum of NaNs is no NaN
    return found


def momentum_and_freezing():
    masks = keras.optimizers.SGD(3e-3, momentum=0.9)
    options = {"mask_optimizer": masks, "normalization": "feature"}
    callbacks = [scl_keras.FreezeMasks(2), scl_keras.MaskLogger()]
    return fit(convolutional(), callbacks=callbacks, **options)


def accumulation():
    optimizer = keras.optimizers.SGD(0.05, gradient_accumulation_steps=2)
    return fit(convolutional(), optimizer=optimizer, epochs=2, normalization=None)


def loss_scaling():
    """Gradients of both kinds are unscaled again; the first scale overflows."""
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.05), initial_scale=2.0**127, dynamic_growth_steps=3
    )
    return fit(convolutional(), optimizer=optimizer, epochs=4)


def custom_loop():
    """What comes out is what `fit` learns on the same batches."""
    fitted, looped = convolutional(), convolutional()
    fit(fitted, epochs=2, connection_cost=0.3)
    optimizer = scl_keras.SCLOptimizer(keras.optimizers.SGD(0.05), connection_cost=0.3)
    batches = [(X[i : i + 32], Y[i : i + 32]) for i in range(0, 96, 32)]
    loops.train(looped, optimizer, LOSS, 2 * batches)
    found = [w.numpy() for w in looped.weights]
    for a, b in zip(found, fitted.weights, strict=True):
        np.testing.assert_allclose(a, b.numpy(), rtol=1e-4, atol=1e-6)
    return {f"weight {i}": w for i, w in enumerate(found)}


def target():
    callbacks = [
        scl_keras.TargetSparsity(0.8, by_epoch=3),
        scl_keras.EffectiveSparsityLogger(),
    ]
    return fit(convolutional(), callbacks=callbacks, epochs=4)


def fixed_masks():
    """Those that training doesn't change, and the constraint sees."""
    model = scl_keras.fix_masks(convolutional())
    return fit(model, epochs=2)


def gradual():
    """Pruning within an epoch, and weights taken from within one."""
    model = scl_keras.sparsify(convolutional(masked=False), ste=None)
    rewinding = scl_keras.WeightRewinding(step=4)
    schedule = scl_keras.ConstantSparsity(0.6, 2, frequency=100)
    found = fit(model, callbacks=[scl_keras.GradualPruning(schedule), rewinding])
    return found | {f"rewound {i}": w for i, w in enumerate(rewinding.weights)}


def resumed(folder):
    """A training that was interrupted; must be what one without a break is."""
    straight = fit(convolutional(), epochs=3)
    backup = [scl_keras.SafeBackup(folder, delete_when_done=False)]
    fit(convolutional(), epochs=1, callbacks=backup)
    again = fit(convolutional(), epochs=3, callbacks=backup)
    for name, value in again.items():
        if not name.startswith("log"):
            np.testing.assert_array_equal(value, straight[name], name)
    return {}


def switcher():
    model = keras.Sequential(
        [
            keras.layers.Input((36,)),
            keras.layers.Dense(8, "relu"),
            keras.layers.Dense(4),
        ]
    )
    assign_weights(model)
    model = scl_keras.SwitcherModel(model, copy=True)
    network = scl_keras.switcher_network()
    assign_weights(network, seed=3)
    model.compile(
        keras.optimizers.SGD(0.05),
        LOSS,
        switcher=network,
        switcher_optimizer=keras.optimizers.SGD(0.1),
        task_steps=2,
        connection_cost=0.3,
    )
    model.scl_optimizer.threshold.assign(0.6)  # cuts some at once
    return fit(model, X.reshape(96, 36))


def tools():
    """Pruning, effective connections, compaction, stripping, the summary."""
    found, model = {}, convolutional(masked=False)
    for method in ("magnitude", "lamp", "snip", "synflow"):
        needs = {"data": (X, Y), "loss": LOSS} if method == "snip" else {}
        pruned = scl_keras.prune(
            model, method, sparsity=0.8, verbose=0, **needs, copy=True
        )
        for i, mask in enumerate(scl_keras.find_masks(pruned)):
            found[f"{method} {i}"] = mask.variable.numpy() > 0
        effective = scl_keras.effective_masks(pruned).values()
        found |= {f"{method} effective {i}": m for i, m in enumerate(effective)}
    compacted = scl_keras.compact(pruned)
    report = scl_keras.compaction_report(pruned, compacted, seconds=0.01)
    found["compacted"] = np.array([report.parameters_after, report.macs_after])
    assert report.difference < 1e-5
    masked = convolutional()
    stripped = scl_keras.strip_masks(masked, copy=True)
    outputs = [keras.ops.convert_to_numpy(m(X[:8])) for m in (masked, stripped)]
    np.testing.assert_allclose(*outputs, rtol=1e-6, atol=1e-6)
    found["outputs"] = outputs[0]
    rows = scl_keras.summary(masked, None).rows
    found["summary"] = np.array([[r.kept, r.macs] for r in rows])
    return found


def snip_in_batches():
    """Batches of `tf.data` are those of NumPy on every backend."""
    import tensorflow as tf

    batches = tf.data.Dataset.from_tensor_slices((X, Y)).batch(40)
    found, model = {}, convolutional(masked=False)
    for data in (batches, list(batches.as_numpy_iterator())):
        pruned = scl_keras.prune(
            model, "snip", sparsity=0.8, data=data, loss=LOSS, verbose=0, copy=True
        )
        for i, mask in enumerate(scl_keras.find_masks(pruned)):
            kept = mask.variable.numpy() > 0
            np.testing.assert_array_equal(kept, found.setdefault(f"mask {i}", kept))
    return found


def main(path):
    """Writes all results into one file of arrays by case and name."""
    cases = {
        "bad batch": bad_batch,
        "momentum and freezing": momentum_and_freezing,
        "accumulation": accumulation,
        "loss scaling": loss_scaling,
        "custom loop": custom_loop,
        "target": target,
        "fixed masks": fixed_masks,
        "gradual": gradual,
        "resumed": lambda: resumed(path + "_backup"),
        "switcher": switcher,
        "tools": tools,
        "snip in batches": snip_in_batches,
    }
    arrays = {}
    for case, function in cases.items():
        arrays |= {f"{case}: {name}": x for name, x in function().items()}
        keras.backend.clear_session()
    np.savez(path, **arrays)
    try:
        scl_keras.export_tflite(convolutional(), path + ".tflite", samples=X[:4])
        exported = "written"
    except RuntimeError as error:
        exported = str(error)
    print(json.dumps({"imported": IMPORTED, "export": exported}))


if __name__ == "__main__":
    main(sys.argv[1])
