"""One call from a trained model to the file for the phone."""

import os
import warnings
from typing import Any

import keras

from scl_keras import backend
from scl_keras.callbacks import SafeBackup, TargetAccuracy
from scl_keras.callbacks.baseline import sign_of
from scl_keras.connectivity import compact
from scl_keras.conversion import strip_masks
from scl_keras.masks.freezing import are_frozen
from scl_keras.pipeline.data import Data
from scl_keras.pipeline.dense import (
    check_is_dense,
    check_is_trained,
    check_takes,
    digest,
    first_metric,
    labels_of,
    measured,
)
from scl_keras.pipeline.goal import Goal
from scl_keras.pipeline.phone_file import steps_of_file
from scl_keras.pipeline.progress import Progress
from scl_keras.pipeline.request import Request
from scl_keras.pipeline.result import Compressed
from scl_keras.pipeline.training import (
    compile_like,
    default_epochs,
    logged_as,
    student_of,
    trainable_kept,
)
from scl_keras.pipeline.writing import write
from scl_keras.report import summary


def compress(
    model: keras.Model,
    train_data: Any,
    validation_data: Any,
    *,
    max_drop: float | None = None,
    max_bytes: int | None = None,
    speedup: float | None = None,
    sparsity: float | None = None,
    compression: float | None = None,
    epochs: int | None = None,
    monitor: str | None = None,
    mode: str = "auto",
    distill: bool = True,
    granularity: Any = None,
    dtype: str | None = None,
    optimize_for: str | None = None,
    learning_rate: float | None = None,
    batch_size: int = 32,
    out: str | os.PathLike[str] | None = None,
    verbose: int = 1,
) -> Compressed:
    """Makes a trained model as small as the accuracy, size or speed asked for allows.

    It measures the model and puts masks into a copy. The copy learns which connections
    it can do without, with the dense model as its teacher; this finds the sparsity.
    Then it is fine-tuned. With `out`, the smallest TFLite file is written whose
    precision loses no more than allowed, after that file was run and compared with
    Keras.

    The copy is trained as the model was compiled: with its loss, its metrics and its
    optimizer. The learning rate falls to zero by a cosine. The model itself stays as it
    is.

    After Ctrl-C it goes on to the file, with the best model so far. Called again with
    the same `out`, it continues the training where it was, also after its process was
    killed. The report is written last: a folder without one is incomplete.

    Args:
        model: A trained, compiled Keras model. Metrics of your own are made anew, so
            register them: `@keras.saving.register_keras_serializable()`.
        train_data: A tuple of arrays `(x, y)` or `(x, y, sample_weight)`, or a
            `tf.data.Dataset`, a `keras.utils.PyDataset` or a PyTorch `DataLoader`.
        validation_data: Likewise: what the metric is measured on.
        max_drop: How much the metric may lose, see `TargetAccuracy`.
        max_bytes: Instead: the most bytes that the file may have, see `TargetBytes`.
        speedup: Instead: how many times as fast as the dense model the file is to be,
            see `TargetSpeed`.
        sparsity: Instead: the share of connections to cut, a float in [0, 1).
        compression: Instead: number of connections over number kept, at least 1.
        epochs: Epochs of the training. By default 15, or as many as make 1,500 steps,
            but no more than 100.
        monitor: The metric, by its name in the logs of `fit`. By default the first that
            the model is compiled with, on validation data, or `"val_loss"`.
        mode: `"max"`, `"min"` or `"auto"`, see `TargetAccuracy`.
        distill: Whether the dense model is the teacher.
        granularity: What a mask switches, as for `sparsify`. By default a connection;
            for `speedup` what makes files faster (`sparsify(runtime="compact")`).
        dtype: The coarsest precision of the file, as for `export_tflite`: by default
            `"int8"`, for `speedup` `"float32"`.
        optimize_for: What the file is chosen by, as for `export_tflite`: by default
            `"size"`, for `speedup` `"latency"`.
        learning_rate: The first learning rate. By default the one that the optimizer
            began with.
        batch_size: Samples per batch, if the data are arrays.
        out: Folder to write to, made if it isn't there. None to write nothing.
        verbose: 1 for one progress bar over all and the report, 0 for neither.

    Returns:
        The result, a `Compressed`.

    Raises:
        ValueError: If an argument doesn't fit. If the model isn't compiled or doesn't
            take the data. If it wasn't trained: its optimizer has made no step and it
            is no better than random weights may be, or it is no better than a constant
            answer. If the file can't become as small or as fast as asked for, or
            something else was begun in `out`.
        RuntimeError: If `max_bytes` or `speedup` is asked for on another backend than
            TensorFlow, which files are made with.

    Example:

    ```python
    dense_model.compile("adam", "mse", metrics=["mae"])
    dense_model.fit(x, y, epochs=5)
    result = compress(dense_model, (x, y), (x, y), compression=4, epochs=3)
    result.after["mae"], result.connections.compression
    ```
    """
    goal = Goal.of(
        max_drop=max_drop,
        max_bytes=max_bytes,
        speedup=speedup,
        sparsity=sparsity,
        compression=compression,
    )
    request = Request.of(
        goal,
        epochs=epochs,
        monitor=monitor,
        mode=mode,
        distill=distill,
        granularity=granularity,
        dtype=dtype,
        optimize_for=optimize_for,
        learning_rate=learning_rate,
        batch_size=batch_size,
        out=out,
    )
    check_is_dense(model)
    training = Data(train_data, request.batch_size, "train_data")
    validation = Data(validation_data, request.batch_size, "validation_data")
    result = _compressed(request, model, training, validation, verbose)
    if verbose:
        print(result)
    return result


def _compressed(request, model, training, validation, verbose):
    before = measured(model, validation)
    monitor = request.monitor or f"val_{first_metric(before)}"
    labels = labels_of(validation)
    check_is_trained(model, monitor, before, labels)
    sign = sign_of(monitor, request.mode, model)
    epochs = request.epochs or default_epochs(training.steps)
    check_takes(model, training)
    begun = request.begin(epochs, digest(model))
    watched = logged_as(monitor, request.distill)
    callback = request.goal.callback(
        *(watched, "max" if sign > 0 else "min", before[monitor.removeprefix("val_")]),
        *(request.dtype, next(validation.batches())[0]),
    )
    steps = steps_of_file(request)
    with Progress(training.steps, watched, steps, disable=not verbose) as progress:
        callbacks = [callback, progress, *begun]
        student, is_done = _trained(
            request, model, training, validation, epochs, callbacks
        )
        # What steers to a sparsity freezes the masks when it is there.
        met = getattr(callback, "met", is_done or are_frozen(student))
        table = summary(student, print_fn=None)
        strip_masks(student)
        compile_like(model, student, request.learning_rate, 1)
        # Files lack its variables otherwise.
        student.optimizer.build(student.trainable_variables)
        result = Compressed(
            model=student,
            compact=compact(student),
            monitor=monitor,
            larger_is_better=sign > 0,
            before=before,
            after=measured(student, validation),
            connections=table,
            looks=tuple(getattr(callback, "history", ())),
            goal=request.goal,
            met=met,
            notes=() if is_done else (_interrupted(request.out),),
        )
        if request.out is not None:
            result = write(result, request, validation, labels, progress)
            if is_done:
                request.finish()
    return result


def _trained(request, model, training, validation, epochs, callbacks):
    """A copy of the model, trained with masks, and whether it came to its end."""
    with trainable_kept(model):
        student, trained = student_of(model, request.distill, request.masks)
        rate, cost = request.learning_rate, request.goal.cost
        compile_like(model, trained, rate, epochs * training.steps, cost=cost)
        if not trained.built:  # what isn't can't be restored
            trained(next(training.batches())[0])
        is_done = _fit(trained, training, validation, epochs, callbacks, request.out)
    return student, is_done


def _fit(model, training, validation, epochs, callbacks, folder):
    """Trains, in a folder so that it can go on there; whether it came to its end."""
    (target, *_) = callbacks
    if folder is not None:
        backup = SafeBackup(folder / "training", delete_when_done=False)
        callbacks = [*callbacks, backup]
    try:
        model.fit(
            **training.training(),
            **validation.validation(),
            epochs=epochs,
            callbacks=callbacks,
            verbose=0,
        )
    except KeyboardInterrupt:
        backend.synchronize(model)
        if isinstance(target, TargetAccuracy):
            target.leave_best()
        warnings.warn(_interrupted(folder), stacklevel=5)
        return False
    return True


def _interrupted(folder):
    """What to know of a training that Ctrl-C has ended, a sentence or two."""
    words = "The training was interrupted: this is the best that it had."
    if folder is None:
        return words
    return f"{words} The same call, with `out` the same, goes on where it was."
