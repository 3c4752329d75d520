"""Learning masks from a teacher: `keras.distillation.Distiller`, with masks."""

from typing import Any

import keras

from scl_keras import checks
from scl_keras.graph.multiply_accumulates import record_positions
from scl_keras.masks.mask import find_masks
from scl_keras.training.loss_by_labels import LossByLabels
from scl_keras.training.model import SCLModel
from scl_keras.training.optimizer import SCLOptimizer
from scl_keras.training.teaching import OutputDistillation


@keras.saving.register_keras_serializable("scl_keras")
class Distiller(SCLModel, LossByLabels):
    """`keras.distillation.Distiller` whose student learns its masks, too.

    The teacher is mostly the dense network that the student was before. The stock
    class would have the optimizer of the weights move the student's masks. This one
    compiles and trains as `SCLModel` does, with all callbacks, and what they count is
    the student's. With frozen masks that keep everything it does what the stock class
    does, step for step, and for several outputs, weights of samples and regularizers
    what `keras.Model` does, which the stock class leaves out.

    When it is trained, `distiller.student` is the model to export or to strip.

    Args:
        teacher: A trained Keras model without masks. It isn't trained, and keeps
            `trainable=False` afterwards. A student that is made of it then needs
            `student.trainable = True`.
        student: The model with masks.
        distillation_losses: As for the stock class. By default
            `OutputDistillation("logits")`: both networks return logits. (By default
            Keras's `LogitsDistillation` compares logits as if they were probabilities,
            in Keras 3.12 to 3.15; `loss=keras.losses.KLDivergence()` is right.)
        distillation_loss_weights: As for the stock class.
        student_loss_weight: Float in [0, 1], the weight of the loss that `compile` is
            given; that of the distillation losses is the rest.
        name: Name of the model.
        **kwargs: As for `keras.Model`.

    Raises:
        ValueError: If the teacher has masks or the student has none, or one that a
            switcher network decides on, if nothing of the student is trainable, or if
            `student_loss_weight` isn't in [0, 1].

    Example:

    ```python
    student = sparsify(dense_model, copy=True)
    distiller = Distiller(dense_model, student)
    distiller.compile("adam", "mse")
    distiller.fit(x, y, epochs=3, callbacks=[TargetSparsity(0.9)])
    strip_masks(distiller.student)
    ```
    """

    def __init__(
        self,
        teacher: keras.Model,
        student: keras.Model,
        distillation_losses: Any = None,
        distillation_loss_weights: list[float] | None = None,
        student_loss_weight: float = 0.5,
        name: str = "distiller",
        **kwargs: Any,
    ) -> None:
        for role, network in (("teacher", teacher), ("student", student)):
            if not isinstance(network, keras.Model):
                raise checks.refusal(role, network, "a Keras model")
        student_loss_weight = checks.number(
            *("student_loss_weight", student_loss_weight),
            "a number in [0, 1]",
            lambda x: 0 <= x <= 1,
        )
        if distillation_losses is None:
            distillation_losses = OutputDistillation("logits")
        if find_masks(teacher):
            raise ValueError(
                "A teacher has no masks: `strip_masks(teacher, copy=True)` is the same "
                f"network without them. Received: teacher={teacher!r}"
            )
        kind = getattr(student, "optimizer_class", SCLOptimizer)
        if not find_masks(student) or kind is not SCLOptimizer:
            raise ValueError(
                "A student has masks that learn by themselves: `sparsify` puts them "
                "in. (Without masks, take `keras.distillation.Distiller`.) "
                f"Received: student={student!r}"
            )
        if kwargs.get("trainable", True) and not student.trainable_variables:
            raise ValueError(
                "Nothing of the student is trainable: a model that was a teacher keeps "
                "`trainable=False`, and so does a copy of it. Set `student.trainable = "
                f"True` before. Received: student={student!r}"
            )
        super().__init__(
            teacher=teacher,
            student=student,
            distillation_losses=distillation_losses,
            distillation_loss_weights=distillation_loss_weights,
            student_loss_weight=student_loss_weight,
            name=name,
            **kwargs,
        )
        self.masks_runtime = getattr(student, "masks_runtime", None)

    def pair_optimizer(self, cost: str | None = None, **options: Any) -> None:
        """Puts what moves the masks beside the optimizer: see `SCLModel`."""
        super().pair_optimizer(cost, **options)
        if self.student.built and self.scl_optimizer.cost == "macs":
            record_positions(self.student)


def network_of(model):
    """The network that a model trains: a distiller's student, else itself."""
    distils = isinstance(model, keras.distillation.Distiller)
    return model.student if distils else model
