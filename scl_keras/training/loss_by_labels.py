"""The loss by the labels of a distiller's student, as `keras.Model` computes it."""

from typing import Any

import keras
from keras import ops

from scl_keras.types import Tensor


class LossByLabels(keras.distillation.Distiller):
    """`keras.distillation.Distiller` with any loss that a `keras.Model` can have.

    The stock class calls the losses itself: it knows no weights of samples or outputs,
    no regularizers, and no outputs without a loss, and it trips over lists of losses.
    Here the loss is that of `keras.Model`, and losses and metrics have the names that
    they have when the student is trained alone.
    """

    @property
    def output_names(self) -> list[str]:
        """Those of the student, where it has some: metrics are called by them."""
        return self.student.output_names

    def compile(
        self,
        optimizer: Any = "adam",
        loss: Any = None,
        metrics: Any = None,
        **kwargs: Any,
    ) -> None:
        """Configures the training, as `keras.Model.compile`."""
        super().compile(optimizer, loss)
        keras.Model.compile(self, optimizer, loss=loss, metrics=metrics, **kwargs)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Tensor:
        """The loss by the labels and the distance from the teacher, a scalar tensor."""
        if y_pred is None:
            y_pred = self(x, training=training)
        by_labels = 0.0
        if self.student_loss_weight > 0 and y is not None:
            by_labels = keras.Model.compute_loss(
                self, y=y, y_pred=y_pred, sample_weight=sample_weight
            )
        trackers = self.student_loss_tracker, self.total_loss_tracker
        before = [[value + 0 for value in t.variables] for t in trackers]
        # Without labels, the stock class gives the teacher's share alone. It counts
        # that as the total, and the other one as zero: so here they are counted anew.
        total = super().compute_loss(x, None, y_pred, None, training)
        total = self.student_loss_weight * by_labels + total
        size = ops.shape(keras.tree.flatten(y_pred)[0])[0]
        for tracker, values, loss in zip(
            trackers, before, (by_labels, total), strict=True
        ):
            for variable, value in zip(tracker.variables, values, strict=True):
                variable.assign(value)
            tracker.update_state(loss, sample_weight=size)  # batches may differ in size
        return total
