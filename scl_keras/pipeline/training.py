"""How the pipeline trains: as the model was compiled, its dense self the teacher."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import keras

from scl_keras.conversion import sparsify
from scl_keras.graph.walking import walk_inside
from scl_keras.training.distiller import Distiller
from scl_keras.training.teaching import OutputDistillation, kind_of

LEAST_STEPS, LEAST_EPOCHS, MOST_EPOCHS = 1500, 15, 100


def default_epochs(steps: int) -> int:
    """15, or as many as make 1,500 steps if that is more, but no more than 100."""
    return min(max(LEAST_EPOCHS, -(-LEAST_STEPS // steps)), MOST_EPOCHS)


def compile_like(
    model: keras.Model,
    other: keras.Model,
    learning_rate: float | None,
    steps: int,
    **options: Any,
) -> None:
    """Compiles another model with the loss, the metrics and the optimizer of a model.

    Args:
        model: The compiled model.
        other: The model to compile.
        learning_rate: See `new_optimizer`.
        steps: See `new_optimizer`.
        **options: What else `compile` of the other model is called with.

    Raises:
        ValueError: If Keras can't make its metrics anew.
    """
    config = model.get_compile_config()
    names = ("loss_weights", "metrics", "weighted_metrics")
    try:
        options |= keras.saving.deserialize_keras_object(
            {name: config[name] for name in names if config.get(name) is not None}
        )
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Keras can't make the metrics of model '{model.name}' anew. Register "
            "those of your own: `@keras.saving.register_keras_serializable()`. "
            f"Received: {type(error).__name__}: {error}"
        ) from error
    optimizer = new_optimizer(model, learning_rate, steps)
    other.compile(optimizer=optimizer, loss=model.loss, **options)


@contextlib.contextmanager
def trainable_kept(model: keras.Model) -> Iterator[None]:
    """Leaves the model's layers as trainable as they were: a teacher's are frozen."""
    before = [(layer, layer.trainable) for layer in walk_inside(model)]
    try:
        yield
    finally:
        for layer, trainable in before:  # outer ones first, which set their inner ones
            layer.trainable = trainable


def new_optimizer(
    model: keras.Model, learning_rate: float | None, steps: int
) -> keras.optimizers.Optimizer:
    """The model's optimizer anew, its rate falling to zero by a cosine.

    Args:
        model: The compiled model.
        learning_rate: The rate at first; by default the one that its optimizer began
            with.
        steps: Number of steps.
    """
    optimizer = model.optimizer
    optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of loss scaling
    config = optimizer.get_config()
    if learning_rate is None:
        learning_rate = _first_rate(config["learning_rate"])
    schedule = keras.optimizers.schedules.CosineDecay(learning_rate, steps)
    return type(optimizer).from_config({**config, "learning_rate": schedule})


def _first_rate(configured):
    if not isinstance(configured, dict):
        return float(configured)
    schedule = keras.saving.deserialize_keras_object(configured)
    return float(keras.ops.convert_to_numpy(schedule(0)))


def student_of(
    model: keras.Model, distill: bool, masks: Mapping[str, Any], weight: float = 0.5
) -> tuple[keras.Model, keras.Model]:
    """A copy with masks, and the model to train: itself, or with its teacher.

    Args:
        model: The compiled dense model.
        distill: Whether it is the teacher.
        masks: What `sparsify` is called with.
        weight: Of the loss that the model is compiled with, beside the teacher.
    """
    student = sparsify(model, **masks, copy=True, verbose=0)
    if not distill:
        return student, student
    losses = keras.tree.flatten(model.loss)
    kinds = [kind_of(loss) for loss in losses]
    teaching = OutputDistillation(kinds[0] if len(set(kinds)) == 1 else kinds)
    distiller = Distiller(model, student, teaching, student_loss_weight=weight)
    return student, distiller


def logged_as(monitor: str, distill: bool) -> str:
    """What the logs call a metric of the model while it is trained.

    Args:
        monitor: The metric's name in the logs of the model alone.
        distill: Whether there is a teacher: the loss then has its share, too.
    """
    is_loss = monitor.removeprefix("val_") == "loss"
    return monitor.replace("loss", "student_loss") if distill and is_loss else monitor
