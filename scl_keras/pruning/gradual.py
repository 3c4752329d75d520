"""Pruning during `fit`."""

from collections.abc import Callable
from typing import Any

import keras

from scl_keras import backend
from scl_keras.masks.mask import find_masks
from scl_keras.pruning.methods import PruningMethod, get_method
from scl_keras.pruning.network import PrunableNetwork
from scl_keras.pruning.quotas import get_quotas
from scl_keras.pruning.ranking import keep_best
from scl_keras.types import Logs, Quotas, Schedule


class GradualPruning(keras.callbacks.Callback):
    """Prunes step by step while the model is trained, by a schedule.

    It takes a model with fixed masks, such as `sparsify(model, ste=None)`, which
    nothing else moves between two updates. As in Zhu & Gupta (arXiv 1710.01878) each
    update ranks all connections anew. A cut connection keeps its value, so that it
    comes back where those that are kept have become smaller.

    A step is an update of the weights, counted by `optimizer.iterations`. Masks and
    steps are variables of the model and its optimizer: training goes on from a saved
    model or from `BackupAndRestore` with the masks that it would have had.

    Args:
        schedule: `ConstantSparsity`, `PolynomialDecay`, or an object like these: called
            with a step it gives the sparsity, and `is_due(step)` tells whether masks
            are updated before that step.
        method: `"magnitude"`, `"lamp"`, `"synflow"`, `"random"` or a `PruningMethod`
            that needs no data. Scores are computed once an update.
        quotas: As for `prune`; by default all connections are ranked together. TFMOT
            prunes each layer to the same sparsity: `"uniform"`.

    Raises:
        ValueError: At the start of `fit`, if the model has no masks or learned ones.

    Example:

    ```python
    sparse = sparsify(dense_model, ste=None)
    sparse.compile("adam", "mse")
    schedule = PolynomialDecay(0.0, 0.9, begin_step=0, end_step=1000)
    sparse.fit(x, y, epochs=9, callbacks=[GradualPruning(schedule)])
    ```
    """

    def __init__(
        self,
        schedule: Schedule,
        method: str | PruningMethod = "magnitude",
        quotas: str | Quotas | Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        if not callable(schedule) or not hasattr(schedule, "is_due"):
            raise ValueError(
                "`schedule` must be a `ConstantSparsity`, a `PolynomialDecay` or an "
                f"object like these. Received: schedule={schedule!r}"
            )
        self.schedule = schedule
        self.method = get_method(method)
        self.quotas = None if quotas is None else get_quotas(quotas)

    def on_train_begin(self, logs: Logs = None) -> None:
        """Checks the model."""
        masks = find_masks(self.model)
        if not masks or any(mask.is_learned for mask in masks):
            kind = "masks that are learned" if masks else "no masks"
            raise ValueError(
                "`GradualPruning` needs a model whose masks are fixed between its "
                "updates: make one with `sparsify(model, ste=None)`, or with "
                f"`fix_masks`. Received: model '{self.model.name}' with {kind}"
            )
        self._network = _Uncut(self.model)
        self._step: int | None = None

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Makes the first update, if it is due before the first step."""
        if self._step is None:  # here, after other callbacks have restored the model
            step = self._step = self._iterations()
            if self.schedule.is_due(step):
                self._update(step)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Updates the masks, if that is due before the next step."""
        last, step = self._step, self._iterations()
        self._step = step
        if last is None:  # no batch has begun
            return
        # `steps_per_execution` makes several at once: what was due comes now.
        due = [t for t in range(last + 1, step + 1) if self.schedule.is_due(t)]
        if due:
            self._update(due[-1])

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds `sparsity` to the logs."""
        if logs is not None:
            kept = sum(int(mask.count()) for mask in find_masks(self.model))
            logs["sparsity"] = 1 - kept / self._network.size

    def _iterations(self):
        backend.synchronize(self.model)
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def _update(self, step):
        size = self._network.size
        count = max(1, round((1 - self.schedule(step)) * size))
        scores = self.method.scores(self._network)
        self._network.keep(keep_best(scores, count, self.quotas))


class _Uncut(PrunableNetwork):
    """A network as it would be without its masks: cut connections have values, too."""

    def kept(self):
        return [mask | True for mask in super().kept()]

    def weights(self):
        return [self._values(kernel) for kernel in self.kernels]
