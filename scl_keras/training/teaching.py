"""What a dense network teaches a sparse one, whatever its outputs mean."""

from typing import Any, Self

import keras
from keras import ops

from scl_keras.types import Tensor

_LEAST = 1e-7
_CLASSES = (
    keras.losses.CategoricalCrossentropy,
    keras.losses.CategoricalFocalCrossentropy,
    keras.losses.SparseCategoricalCrossentropy,
)
_EVENTS = (keras.losses.BinaryCrossentropy, keras.losses.BinaryFocalCrossentropy)
KINDS = ("logits", "probabilities", "logit", "probability", "values")


@keras.saving.register_keras_serializable("scl_keras")
class OutputDistillation(keras.distillation.DistillationLoss):
    """The distance of a student's outputs from its teacher's, by what they are.

    - `"logits"` and `"probabilities"` of classes, along the last axis: the divergence
      `T² · KL(p_teacher ‖ p_student)` of Hinton et al. (arXiv 1503.02531), with
      `p = softmax(logits / T)`. Probabilities are taken for what they are the softmax
      of: `log(p)` are logits, up to a constant that the softmax doesn't see.
    - `"logit"` and `"probability"` of independent events: the same with two classes
      each, the event and its opposite, and the mean over events.
    - `"values"`: the mean squared difference.

    Args:
        kind: One of these, for all outputs; or a list of them, in the order of the
            outputs.
        temperature: `T`, a float > 0.

    Raises:
        ValueError: If a `kind` is unknown, or `temperature` isn't above 0.

    Example:

    ```python
    student = sparsify(dense_model, copy=True)
    distiller = Distiller(dense_model, student, OutputDistillation("values"))
    distiller.compile("adam", "mse")
    distiller.fit(x, y)
    ```
    """

    def __init__(
        self, kind: str | list[str] = "logits", temperature: float = 3.0
    ) -> None:
        kinds = [kind] if isinstance(kind, str) else list(kind)
        if not kinds or any(one not in KINDS for one in kinds):
            raise ValueError(f"`kind` must be one of {KINDS}. Received: kind={kind!r}")
        if not temperature > 0:
            raise ValueError(
                f"`temperature` must be > 0. Received: temperature={temperature!r}"
            )
        self.kind, self.temperature = kind, float(temperature)

    def compute_loss(
        self, teacher_outputs: Any, student_outputs: Any, **kwargs: Any
    ) -> Tensor:
        """The mean over outputs and samples, a scalar tensor."""
        teachers = keras.tree.flatten(teacher_outputs)
        students = keras.tree.flatten(student_outputs)
        kinds = self.kind
        if isinstance(kinds, str):
            kinds = [kinds] * len(teachers)
        if len(kinds) != len(teachers):
            raise ValueError(
                f"`kind` must name the kind of each of {len(teachers)} outputs. "
                f"Received: kind={self.kind!r}"
            )
        found = [
            self._loss(kind, teacher, student)
            for kind, teacher, student in zip(kinds, teachers, students, strict=True)
        ]
        return sum(found) / len(found)

    def _loss(self, kind, teacher, student):
        teacher, student = (ops.cast(x, "float32") for x in (teacher, student))
        if kind == "values":
            return ops.mean(ops.square(teacher - student))
        teacher, student = (self._logits(kind, x) for x in (teacher, student))
        squared = self.temperature**2
        wanted = ops.softmax(teacher / self.temperature, axis=-1)
        known = ops.log_softmax(teacher / self.temperature, axis=-1)
        found = ops.log_softmax(student / self.temperature, axis=-1)
        return squared * ops.mean(ops.sum(wanted * (known - found), axis=-1))

    @staticmethod
    def _logits(kind, outputs):
        if kind == "logits":
            return outputs
        if kind == "logit":
            return ops.stack([outputs, ops.zeros_like(outputs)], axis=-1)
        clipped = ops.clip(outputs, _LEAST, 1 - _LEAST)
        if kind == "probabilities":
            return ops.log(clipped)
        return ops.stack([ops.log(clipped), ops.log(1 - clipped)], axis=-1)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for serialization."""
        return {"kind": self.kind, "temperature": self.temperature}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Self:
        """The loss that `get_config` described."""
        return cls(**config)


def kind_of(loss) -> str:
    """What the outputs are that a loss is meant for: one of `KINDS`.

    Args:
        loss: A loss, as `compile` takes it: a name, a function or an object. One that
            isn't of Keras is taken to compare values.
    """
    loss = keras.losses.get(loss)
    if isinstance(loss, keras.losses.Loss):
        of_classes, of_events = isinstance(loss, _CLASSES), isinstance(loss, _EVENTS)
        raw = bool(getattr(loss, "from_logits", False))
    else:
        name = getattr(loss, "__name__", "")
        of_classes, of_events = "categorical_" in name, name.startswith("binary_")
        raw = False
    if of_classes:
        return "logits" if raw else "probabilities"
    if of_events:
        return "logit" if raw else "probability"
    return "values"
