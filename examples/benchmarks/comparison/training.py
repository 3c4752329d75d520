"""One run: from the initial weights to its figures."""

import gc
import time

import keras
import numpy as np
from grid import digest

import scl_keras
from comparison.augmentation import Augmented
from comparison.methods import METHODS
from scl_keras.pruning import DisconnectedError


def train(run, data, store):
    """Trains a `Run`, and measures what came of it.

    Args:
        run: The `Run`.
        data: Its task's data.
        store: The `Store`, for what runs share.

    Returns:
        A dict of figures. Where no connection from the inputs to the outputs is left,
        `accuracy` is None if the method refused to make such a network, and that of a
        constant answer if it did; `effective_compression` is None, and `cut_off` true.
        With a validation split it is `validation_accuracy`, on that split.
    """
    try:
        model, seconds = trained_model(run, data, store)
    except DisconnectedError as error:
        return {run.task.metric: None, "cut_off": True, "why": str(error)}
    return {**measure(model, data, run.task.metric), **seconds}


def trained_model(run, data, store):
    """The Keras model of a `Run`, and a dict of the seconds that it took.

    Raises:
        DisconnectedError: If the method refuses to cut all paths.
    """
    keras.backend.clear_session()
    gc.collect()
    method = METHODS[run.method]
    first, epochs = shares(run)
    keras.utils.set_random_seed(run.seed)
    model = run.task.build(data)
    seconds = _pretrain(model, run, data, first, store) if first else 0.0
    keras.utils.set_random_seed(run.seed)  # the same, whether that was made or found
    start, processor = time.perf_counter(), time.process_time()
    prepared = method.prepare(model, run, data, epochs, **dict(run.parameters))
    made = time.perf_counter()
    if epochs:
        _fit(prepared, run.task, data, epochs, run.seed)
    trained = time.perf_counter()
    return prepared.finish(prepared.model), {
        "seconds": seconds + trained - start,
        "dense_seconds": seconds,
        "preparing_seconds": made - start,
        "processor_seconds": time.process_time() - processor,
    }


def shares(run):
    """Epochs of a run's dense training, and those that are left to its method."""
    task, method = run.task, METHODS[run.method]
    if task.dense_epochs:
        return task.dense_epochs, 0 if run.method == "trained" else task.epochs
    first = round(task.epochs * method.dense_share)
    return first, task.epochs - first


def measure(model, data, metric="accuracy"):
    """Accuracy and what is left of the connections: a dict of figures."""
    logits = model.predict(data.x_test, batch_size=1000, verbose=0)
    table = scl_keras.summary(model, print_fn=None)
    return {
        metric: float(np.mean(logits.argmax(-1) == data.y_test)),
        "cut_off": not table.effective,
        "connections": table.connections,
        "kept": table.kept,
        "effective": table.effective,
        "density": table.density,
        "effective_density": table.effective / table.connections,
        "direct_compression": table.compression if table.kept else None,
        "effective_compression": table.effective_compression
        if table.effective
        else None,
        "macs": table.macs,
        "kept_macs": table.sparse_macs,
        "effective_macs": sum(
            row.macs * row.effective // row.connections for row in table.rows
        ),
        "layers": {row.layer: [row.kept, row.effective] for row in table.rows},
    }


def compiled(prepared, task, steps):
    """Compiles for classification: Adam with a cosine decay over all steps."""
    kind = prepared.framework
    schedule = kind.optimizers.schedules.CosineDecay(task.learning_rate, steps)
    prepared.model.compile(
        optimizer=kind.optimizers.Adam(schedule),
        loss=kind.losses.SparseCategoricalCrossentropy(from_logits=True),
        jit_compile=jit_of(task),
        **prepared.arguments,
    )
    return prepared.model


def jit_of(task):
    """What `compile` is told of compilation: JAX has no graphs without it."""
    return task.jit_compile if keras.backend.backend() == "tensorflow" else "auto"


def _fit(prepared, task, data, epochs, seed):
    model = compiled(prepared, task, epochs * task.steps(data))
    batches = data.x_train, data.y_train, task.batch_size
    model.fit(
        *((Augmented(*batches, seed),) if task.augment else batches),
        epochs=epochs,
        shuffle=not task.augment,  # which shuffles itself
        callbacks=prepared.callbacks,
        verbose=0,
    )


def _pretrain(model, run, data, epochs, store):
    """Gives a model the weights of its dense training; the seconds that took."""

    def make():
        start = time.perf_counter()
        prepared = METHODS["dense"].prepare(model, run, data, epochs)
        _fit(prepared, run.task, data, epochs, run.seed)
        return model.get_weights(), time.perf_counter() - start

    setting = {**run.setting()["task"], "seed": run.seed, "dense_epochs": epochs}
    setting.pop("epochs")  # the length of what comes after doesn't matter to it
    name = f"{run.task.network}_seed{run.seed}_{epochs}epochs_{digest(setting)}"
    weights, seconds = store.weights(name, make)
    model.set_weights(weights)
    return seconds
