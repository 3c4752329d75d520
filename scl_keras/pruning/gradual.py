"""Pruning during `fit`."""

import warnings
from collections.abc import Callable
from typing import Any

import keras

from scl_keras import backend, checks
from scl_keras.callbacks.after_target import warn_of_best_only
from scl_keras.callbacks.fit_listener import FitListener
from scl_keras.masks.mask import find_masks
from scl_keras.pruning.groups import keep_most
from scl_keras.pruning.methods import PruningMethod, get_method
from scl_keras.pruning.paths import Paths, methods_with_paths
from scl_keras.pruning.quotas import get_quotas
from scl_keras.pruning.uncut import UncutNetwork
from scl_keras.training.distiller import network_of
from scl_keras.training.loss_scaling import unscaled
from scl_keras.training.pair import PairedOptimizer
from scl_keras.types import Logs, Quotas, Schedule


class GradualPruning(FitListener):
    """Prunes step by step during training, by a schedule.

    It takes a model with fixed masks, such as `sparsify(model, ste=None)` makes.
    Nothing else moves these between two updates. As in Zhu & Gupta (arXiv 1710.01878),
    each update ranks all connections anew. A cut connection keeps its value, and comes
    back if kept ones have become smaller.

    A step is an update of the weights, counted by `optimizer.iterations`. Masks and
    steps are variables of the model and its optimizer. So training resumes from a saved
    model or from `BackupAndRestore` with the masks that it would have had.

    It ends exactly at the sparsity asked for: if the schedule would stop before, there
    is a last update at its `end_step` (TFMOT has none). If `fit` will end before that,
    it warns at the start, or at the end if it couldn't tell. With masks of the
    granularity `NM(2, 4)`, updates first cut connections outside the best two of every
    four, worst first. From a sparsity of a half on, at most two of every four are left.
    Masks of layers with `trainable=False` count, and stay as they are. `AfterTarget`
    begins after the last update.

    After each update it checks that a path is left from the inputs to the outputs, as
    `prune` does. If none is left, it goes on, since cut connections may come back. It
    warns once: which kernels are empty, and what to do.

    Args:
        schedule: `ConstantSparsity`, `PolynomialDecay`, or an object like these: called
            with a step it returns the sparsity, and `is_due(step)` tells whether masks
            are updated before that step. If it has `begin_step` and `end_step`, they
            tell when it is over.
        method: `"magnitude"`, `"lamp"`, `"synflow"`, `"random"` or a `PruningMethod`
            that needs no data. Scores are computed once per update.
        quotas: As for `prune`; by default all connections are ranked together. TFMOT
            prunes each layer to the same sparsity: `"uniform"`.

    Raises:
        ValueError: If `schedule`, `method` or `quotas` isn't one of these. When `fit`
            begins: if the schedule gives a sparsity outside [0, 1) or leaves more than
            masks can keep; if the model has no masks, learned ones, or none in a layer
            that is trained; or if frozen layers alone keep more than the schedule
            leaves.

    Warns:
        UserWarning: If `fit` ends before the schedule does, if another callback undid
            it, or if an update leaves no path from the inputs to the outputs.

    Example:

    ```python
    sparse = sparsify(dense_model, ste=None)
    sparse.compile("adam", "mse")
    schedule = PolynomialDecay(0.0, 0.9, begin_step=0, end_step=6)
    sparse.fit(x, y, epochs=9, callbacks=[GradualPruning(schedule)])
    ```

    Two of every four connections, from the first step on:

    ```python
    sparse = sparsify(dense_model, ste=None, granularity=NM(2, 4), copy=True)
    sparse.compile("adam", "mse")
    pruning = GradualPruning(ConstantSparsity(0.5, begin_step=0))
    sparse.fit(x, y, epochs=3, callbacks=[pruning])
    ```
    """

    def __init__(
        self,
        schedule: Schedule,
        method: str | PruningMethod = "magnitude",
        quotas: str | Quotas | Callable[..., Any] | None = None,
    ) -> None:
        super().__init__()
        wanted = "a `ConstantSparsity`, a `PolynomialDecay` or an object like these"
        if not hasattr(checks.function("schedule", schedule, wanted), "is_due"):
            raise checks.refusal("schedule", schedule, wanted)
        self.schedule = schedule
        self.method = get_method(method)
        self.quotas = None if quotas is None else get_quotas(quotas)
        begin = getattr(schedule, "begin_step", 0)
        end = getattr(schedule, "end_step", -1)
        # From which step on the sparsity is the last one.
        self._end = end if end >= 0 and schedule(begin) != schedule(end) else begin

    def on_train_begin(self, logs: Logs = None) -> None:
        """Checks the model."""
        model = network_of(self.model)
        masks = find_masks(model)
        if not masks or any(mask.is_learned for mask in masks):
            kind = "masks that are learned" if masks else "no masks"
            raise ValueError(
                "`GradualPruning` needs a model whose masks are fixed between its "
                "updates: make one with `sparsify(model, ste=None)`, or with "
                f"`fix_masks`. Received: model '{model.name}' with {kind}"
            )
        self._network = UncutNetwork(model)
        self._check_capacity(self._count(self.schedule(self._end)))
        self._paths: Paths | None = Paths(self._network)
        self._epoch = 0
        self._step: int | None = None
        self._told = False

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Knows how much of the training is left, and whether masks are to move."""
        self._epoch = epoch
        if self._step is None:  # `AfterTarget` looks before the first step
            self._freeze(self._iterations() >= self._end)

    def on_train_batch_begin(self, batch: int, logs: Logs = None) -> None:
        """Makes the first update, if it is due before the first step."""
        if self._step is None:  # here, after other callbacks have restored the model
            step = self._step = self._iterations()
            if self._is_due(step):
                self._update(step)
            self._freeze(step >= self._end)
            if step < self._end:
                self._warn_of_the_end(step)
                warn_of_best_only(self._others)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Updates the masks, if that is due before the next step."""
        last, step = self._step, self._iterations()
        self._step = step
        if last is None:  # no batch has begun
            return
        # `steps_per_execution` makes several at once: what was due comes now.
        due = [t for t in range(last + 1, step + 1) if self._is_due(t)]
        if due:
            self._update(due[-1])
        if last < self._end <= step:
            self._freeze(True)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Adds `sparsity` to the logs."""
        if logs is not None:
            logs["sparsity"] = 1 - self._kept() / self._network.size

    def after_fit(self) -> None:
        """Warns if the schedule hasn't ended, or another callback has undone it."""
        step = self._iterations()
        if step < self._end:
            self._warn_of_what_is_missing(step)
            return
        expected = self._count(self.schedule(self._end)) + self._network.still_kept()
        if self._kept() != expected:
            warnings.warn(
                f"Training ended with {self._kept():,} connections, not the "
                f"{expected:,} that the schedule ends with: a callback restored "
                "weights from before. `AfterTarget(EarlyStopping(...))` looks only at "
                "what comes after.",
                stacklevel=2,
            )

    def _warn_of_the_end(self, step):
        """Warns at the start if the schedule doesn't come to its end in this `fit`."""
        steps = (self.params or {}).get("steps")  # none in a loop of one's own
        if not steps:
            return
        last = (
            step + steps * (self.params["epochs"] - self._epoch) // self._micro_steps()
        )
        if last >= self._end:
            return
        self._told = True
        due = [t for t in range(step, last + 1) if self._is_due(t)]
        left = self.schedule(due[-1]) if due else 1 - self._kept() / self._network.size
        warnings.warn(
            f"`GradualPruning` makes its last update after {self._end} steps, but "
            f"`fit` ends after {last}, with a sparsity of {left:.3g} instead of "
            f"{self.schedule(self._end):.3g}. Train longer, unless another `fit` "
            f"follows, or let it end earlier. Received: schedule={self.schedule!r}",
            stacklevel=2,
        )

    def _warn_of_what_is_missing(self, step):
        """Warns at the end, unless it was told at the start."""
        if self._told:
            return
        left = 1 - self._kept() / self._network.size
        warnings.warn(
            f"Training ended after step {step}, but `GradualPruning` makes its last "
            f"update after {self._end}: the sparsity is {left:.3g} instead of "
            f"{self.schedule(self._end):.3g}. It was stopped early, the data had fewer "
            "batches, or some were skipped for NaN or infinite gradients. Train on "
            "with another `fit`, or let the schedule end earlier. "
            f"Received: schedule={self.schedule!r}",
            stacklevel=2,
        )

    def _micro_steps(self):
        optimizer = unscaled(self.model.optimizer)
        if isinstance(optimizer, PairedOptimizer):
            optimizer = optimizer.optimizer
        return optimizer.gradient_accumulation_steps or 1

    def _is_due(self, step):
        return step == self._end or self.schedule.is_due(step)

    def _freeze(self, frozen):
        for mask in find_masks(self._network.model):
            mask.frozen.assign(frozen)

    def _kept(self):
        masks = find_masks(self._network.model)
        return sum(int(keras.ops.convert_to_numpy(mask.count())) for mask in masks)

    def _iterations(self):
        backend.synchronize(self.model)
        return int(keras.ops.convert_to_numpy(self.model.optimizer.iterations))

    def _count(self, sparsity):
        """How many connections the masks that move may keep."""
        network = self._network
        wanted = "a number in [0, 1)"
        checks.number("schedule(step)", sparsity, wanted, lambda x: 0 <= x < 1)
        count = max(1, round((1 - sparsity) * network.size)) - network.still_kept()
        if count < 1:
            raise ValueError(
                f"A sparsity of {sparsity:.3g} leaves less of {network.size:,} "
                f"connections than the {network.still_kept():,} of layers with "
                "`trainable=False`, which can't be cut. Ask for less. "
                f"Received: schedule={self.schedule!r}"
            )
        return min(count, sum(network.kernels[i].mask.size for i in network.moving))

    def _check_capacity(self, count):
        masks = [self._network.kernels[i].mask for i in self._network.moving]
        most, size = sum(m.capacity for m in masks), sum(m.size for m in masks)
        if count > most:
            kinds = {str(m.granularity) for m in masks if m.capacity < m.size}
            raise ValueError(
                f"The schedule ends with {count:,} of {size:,} connections, but masks "
                f"of the granularity {', '.join(sorted(kinds))} keep at most {most:,}. "
                f"Let it end with a sparsity of {1 - most / size:.4g} or more. "
                f"Received: schedule={self.schedule!r}"
            )

    def _update(self, step):
        network = self._network
        scores = self.method.scores(network)
        allowed = network.admitted(scores, network.kept())
        moving = [scores[i] for i in network.moving]
        count = self._count(self.schedule(step))
        kept = keep_most(
            moving, count, self.quotas, [allowed[i] for i in network.moving]
        )
        for i, mask in zip(network.moving, kept, strict=True):
            network.kernels[i].mask.assign(mask)
        self._check_paths(step)

    def _check_paths(self, step):
        """Warns once in a `fit` if no path is left, or a kernel is empty."""
        if self._paths is None:
            return
        masks = [kernel.kept() for kernel in self._network.kernels]
        left = self._paths.are_left(masks)
        if left or (left is None and not self._paths.empty(masks)):
            return
        name = f"the inputs of model '{self._network.model.name}' to its outputs"
        found = (
            f"it can't be told whether a path is left from {name}"
            if left is None
            else f"no path is left from {name}: all that they depend on is biases"
        )
        warnings.warn(
            f"`GradualPruning`: after its update at step {step}, {found}. "
            f"{self._paths.empty_in_words(masks)} Training goes on, for later updates "
            "may bring connections back. To keep a path, take the method "
            f"{methods_with_paths(self.method)}, or quotas such as 'erk', which leave "
            "something of each kernel, or let the schedule end with less sparsity. "
            f"Received: schedule={self.schedule!r}",
            stacklevel=2,
        )
        self._paths = None
