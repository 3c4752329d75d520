"""Trains seeded models on the backend of KERAS_BACKEND, and writes what came of them.

    KERAS_BACKEND=jax python train_process.py results.npz

Weights and data are made with NumPy, so that they are the same on every backend.
"""

import json
import sys
import warnings

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


def convolutional(masked=True, regularizer="l2"):
    """A network with batch normalization, regularizer and constraint."""
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Conv2D(4, 3, padding="same", activation="relu")(inputs)
    x = keras.layers.MaxPooling2D()(keras.layers.BatchNormalization()(x))
    x = keras.layers.Flatten()(x)
    options = {"kernel_regularizer": regularizer, "kernel_constraint": "max_norm"}
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
    """Gradients of both kinds are unscaled again, until the scale is infinite."""
    optimizer = keras.optimizers.LossScaleOptimizer(
        keras.optimizers.SGD(0.05), initial_scale=2.0**127, dynamic_growth_steps=3
    )
    return fit(convolutional(), optimizer=optimizer, epochs=4)


def overflow():
    """Batches that loss scaling keeps back are counted, and move nothing else."""
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = convolutional()
    finally:
        keras.config.set_dtype_policy("float32")
    model.compile(keras.optimizers.SGD(0.05), LOSS, connection_cost=0.3)
    model.fit(X, Y, epochs=16, verbose=0)  # finds its scale
    optimizer, scale = model.scl_optimizer, model.optimizer.dynamic_scale
    skipped, factor = int(optimizer.skipped_updates.numpy()), float(scale.numpy())
    before = [w.numpy() for w in model.weights]
    model.train_on_batch(X, Y, sample_weight=np.full(len(X), 1e8))
    model.train_on_batch(np.where(np.arange(96)[:, None, None, None], X, np.nan), Y)
    for weight, value in zip(model.weights, before, strict=True):
        np.testing.assert_array_equal(weight.numpy(), value, weight.path)
    assert float(scale.numpy()) == factor / 4
    assert int(optimizer.skipped_updates.numpy()) == skipped + 2
    model.train_on_batch(X, Y)
    assert all(np.isfinite(w.numpy()).all() for w in model.weights)
    assert not np.array_equal(model.weights[0].numpy(), before[0])
    return {}


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


def n_of_m():
    """Masks that compete in groups, learned with a target, and pruned ones."""
    nm, found = scl_keras.NM(2, 4), {}
    model = scl_keras.sparsify(convolutional(masked=False), granularity=nm)
    for i, mask in enumerate(scl_keras.find_masks(model)):
        found[f"first kernel {i}"] = mask.values()
    found |= fit(model, callbacks=[scl_keras.TargetSparsity(0.6)])
    assert scl_keras.report.check_groups(model).holds
    for method in ("magnitude", "synflow"):
        pruned = scl_keras.prune(
            convolutional(masked=False), method, granularity=nm, verbose=0
        )
        assert scl_keras.report.check_groups(pruned).holds
        for i, mask in enumerate(scl_keras.find_masks(pruned)):
            found[f"{method} kernel {i}"] = mask.values()
    return found


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


class Interrupt(keras.callbacks.Callback):
    """Stands for a kill, before an epoch."""

    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise InterruptedError


def resumed(folder):
    """A training that was interrupted; must be what one without a break is."""
    for epoch in (1, 3):  # on the way to a target, and with frozen masks
        target = scl_keras.TargetSparsity(0.7, by_epoch=2)
        straight = fit(convolutional(), epochs=4, callbacks=[target])
        callbacks = [target, scl_keras.SafeBackup(f"{folder}_{epoch}")]
        try:
            fit(convolutional(), epochs=4, callbacks=[*callbacks, Interrupt(epoch)])
            raise AssertionError("It wasn't interrupted.")
        except InterruptedError:
            pass
        again = fit(convolutional(), epochs=4, callbacks=callbacks)
        for name, value in again.items():
            if not name.startswith("log"):
                np.testing.assert_array_equal(value, straight[name], name)
    return {}


def targets_in_turn(path):
    """Frozen masks stay so through `compile` and a file, until there is another one."""
    model = convolutional()
    fit(model, callbacks=[scl_keras.TargetSparsity(0.7)])
    masks = [mask.values() for mask in scl_keras.find_masks(model)]
    model.compile(keras.optimizers.SGD(0.01), LOSS, connection_cost=5.0)
    fit(model, epochs=1)
    model.save(path)
    model = keras.models.load_model(path, compile=False)
    fit(model, epochs=1, connection_cost=5.0, callbacks=[scl_keras.MaskLogger()])
    for old, mask in zip(masks, scl_keras.find_masks(model), strict=True):
        np.testing.assert_array_equal(old, mask.values())
    target = scl_keras.TargetSparsity(0.8)
    logs = model.fit(
        *(X, Y),
        batch_size=32,
        initial_epoch=3,
        epochs=6,
        shuffle=False,
        verbose=0,
        callbacks=[target],
    ).history
    found = fit(model, epochs=1)
    return found | {f"log second {k}": np.array(v) for k, v in logs.items()}


def distilled():
    """With frozen masks the stock distiller, step for step; and with a target."""
    weights = []
    for masked in (False, True):
        # The stock class leaves regularizers out.
        teacher, student = (convolutional(False, regularizer=None) for _ in range(2))
        assign_weights(teacher, seed=5)
        kind, losses = keras.distillation.Distiller, keras.distillation
        if masked:
            kind = scl_keras.Distiller
            scl_keras.freeze_masks(scl_keras.sparsify(student))
        distiller = kind(teacher, student, losses.LogitsDistillation())
        fit(distiller)
        weights.append(
            [w.numpy() for w in student.weights if not hasattr(w, "connection_mask")]
        )
    for a, b in zip(*weights, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    distiller = scl_keras.Distiller(teacher, convolutional())
    best = keras.callbacks.EarlyStopping("loss", patience=9, restore_best_weights=True)
    callbacks = [scl_keras.TargetSparsity(0.8, by_epoch=3), scl_keras.AfterTarget(best)]
    fit(distiller, epochs=5, callbacks=callbacks)
    student = distiller.student
    return {f"weight {i}": w.numpy() for i, w in enumerate(student.weights)}


def unused_output():
    """What no loss depends on stays as it is, and isn't cut by its price alone."""
    inputs = keras.Input((6, 6, 1))
    x = keras.layers.Dense(8, "relu")(keras.layers.Flatten()(inputs))
    heads = {name: keras.layers.Dense(4, name=name)(x) for name in ("used", "unused")}
    model = keras.Model(inputs, heads)
    assign_weights(model)
    model = scl_keras.sparsify(model)
    used, unused = (model.get_layer(name).kernel_mask for name in heads)
    before, optimizer = unused.values(), keras.optimizers.SGD(0.05)
    model.compile(optimizer, {"used": LOSS}, connection_cost=3.0)
    with warnings.catch_warnings():
        # What Keras says of the head's weights.
        warnings.filterwarnings("ignore", message="Gradients do not exist")
        model.fit(X, {"used": Y}, 32, 3, shuffle=False, verbose=0)
    np.testing.assert_array_equal(before, unused.values())
    assert used.values().min() < before.min()
    return {f"weight {i}": w.numpy() for i, w in enumerate(model.weights)}


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
    found = fit(model, X.reshape(96, 36))
    target = scl_keras.TargetSparsity(0.7)
    logs = fit(model, X.reshape(96, 36), epochs=6, callbacks=[target])
    return found | {"log steered sparsity": logs["log sparsity"]}


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
        "overflow": overflow,
        "custom loop": custom_loop,
        "target": target,
        "n of m": n_of_m,
        "fixed masks": fixed_masks,
        "gradual": gradual,
        "resumed": lambda: resumed(path + "_backup"),
        "targets in turn": lambda: targets_in_turn(path + "_target.keras"),
        "distilled": distilled,
        "unused output": unused_output,
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
