"""Reaching a sparsity that the user names, by steering the connection cost."""

import math
import warnings

import keras
import numpy as np

from scl_keras import backend
from scl_keras.callbacks.budget import Budget
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.multiply_accumulates import record_positions
from scl_keras.masks.density import in_order, nearest, target_density
from scl_keras.masks.mask import _BARELY_KEPT, find_masks
from scl_keras.training.prices import COSTS
from scl_keras.types import Logs


class TargetSparsity(keras.callbacks.Callback):
    """Reaches a sparsity by an epoch, by steering the connection cost.

    No connection cost has to be found, and no sparsity per layer: one price holds for
    all connections, and this callback moves it so that the number kept follows

    `log N(t) = log N_0 + (1 - (1 - t)³) · (log N_target - log N_0)`

    from the first step (`t = 0`) to the end of epoch `by_epoch` (`t = 1`). It looks at
    the distance by which all mask variables together would have to fall to meet the
    plan: how that moved since the last look tells the cost that would hold it, and what
    is added to this cost makes it vanish within the next steps. The last such distance
    is gone in one stroke, which makes the number exact, and the masks are frozen: what
    epochs are left fine-tune the weights.

    With `of="flops"` `N` counts multiply-accumulates. This belongs to `cost="flops"` of
    `compile`: what is paid for is what becomes less. (A target of connections with a
    price on multiply-accumulates takes convolutions first, and where they have few
    connections all may be gone before the number is met.)

    A layer keeps its last connection (see `Mask`). Layers that would have lost it are
    printed. Where a mask variable switches several connections (see `Granularity`), the
    number is met up to one switch.

    A loss or accuracy is best before connections go. So have a callback that keeps the
    best weights look only at what comes after the target:
    `EarlyStopping(start_from_epoch=by_epoch)`. If training ends with another number of
    connections there is a warning, for weights that another callback restored too if
    that one stands before this one. No other callback should set the connection cost.

    Args:
        sparsity: Float in [0, 1), the share of masked connections to cut.
        compression: Instead: number of connections over number kept, at least 1.
        by_epoch: Number of epochs, from 1, after which it is reached. By default two
            thirds of the epochs of `fit`.
        verbose: 1 to print when it is reached, 0 not to.
        of: What there is to be less of: `"connections"`, or `"flops"`.

    Raises:
        ValueError: If not exactly one target is given or one is out of range, or
            `by_epoch` is no whole number, or `of` is something else; at the start of
            `fit`, if it ends before `by_epoch`, the target leaves less than a
            connection a layer, or multiply-accumulates can't be counted.

    Example:

    ```python
    model.fit(x, y, epochs=9, callbacks=[TargetSparsity(0.98, by_epoch=6)])
    ```
    """

    def __init__(
        self,
        sparsity: float | None = None,
        compression: float | None = None,
        by_epoch: int | None = None,
        verbose: int = 0,
        of: str = "connections",
    ) -> None:
        super().__init__()
        self.density = target_density("TargetSparsity", sparsity, compression)
        if by_epoch is not None and (by_epoch < 1 or by_epoch != int(by_epoch)):
            raise ValueError(
                "`by_epoch` must be a whole number >= 1, or None for two thirds of the "
                f"epochs. Received: by_epoch={by_epoch}"
            )
        if of not in COSTS:
            raise ValueError(f"`of` must be one of {COSTS}. Received: of={of!r}")
        self.by_epoch = by_epoch and int(by_epoch)
        self.verbose = verbose
        self.of = of

    def on_train_begin(self, logs: Logs = None) -> None:
        """Checks the target against the model and the length of the training."""
        epochs = self.params["epochs"]
        self._end = self.by_epoch or max(1, round(epochs * 2 / 3))
        if self._end > epochs:
            raise ValueError(
                f"`by_epoch` is {self.by_epoch}, but `fit` ends earlier. "
                f"Received: epochs={epochs}"
            )
        masks = [mask for mask in find_masks(self.model) if mask.is_learned]
        if not masks:
            raise ValueError(
                "`TargetSparsity` needs masks that are learned. Those that were made "
                "with `ste=None`, as `prune` does, are fixed; `GradualPruning` changes "
                f"such masks in training. Received: model '{self.model.name}'"
            )
        if self.of == "flops":
            record_positions(self.model)
        self._budget = Budget(masks, self.of, self.density)
        self._know_steps(self.params.get("steps"))

    def _know_steps(self, steps):
        self._steps = steps
        if steps:
            self._total_steps = self._end * steps

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Freezes the masks when the time has come, also in a resumed run."""
        self._epoch = epoch
        self._seen = 0
        self._last_look = -math.inf
        frozen = self.model.scl_optimizer.frozen
        if epoch == self._end and not frozen.numpy():
            self._close_the_gap()  # saved before this callback's turn, and resumed
        frozen.assign(epoch >= self._end)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Moves the connection cost, every few steps."""
        self._seen = batch + 1
        # Data of unknown length are counted for an epoch first. A batch's number may
        # jump: with `steps_per_execution` only the last of each execution comes here.
        if self._epoch >= self._end or not self._steps:
            return
        self._steer(self._epoch * self._steps + min(self._seen, self._steps))

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Makes the number exact at the end of epoch `by_epoch`."""
        if not self._steps:
            self._know_steps(self._seen)
        if epoch != self._end - 1:
            return
        self._close_the_gap()
        self.model.scl_optimizer.frozen.assign(True)
        budget = self._budget
        if logs is not None:
            cost = float(self.model.scl_optimizer.connection_loss())
            kept = sum(int(mask.count()) for mask in budget.masks)
            size = sum(mask.size for mask in budget.masks)
            figures = (cost, kept / size, 1 - kept / size, size / kept)
            keys = ("connection_loss", "density", "sparsity", "compression")
            logs.update(zip(keys, figures, strict=True))
        labels = [k.label for k in self._kernels() if k.mask.is_down_to_last()]
        if labels:
            print("\nDown to their last connection: " + ", ".join(labels))
        if self.verbose:
            kept, size, noun = budget.kept(), budget.size, budget.noun
            print(f"\n{kept:,} of {size:,} {noun} kept; masks are frozen.")

    def on_train_end(self, logs: Logs = None) -> None:
        """Warns if the model isn't left with the target."""
        budget = self._budget
        if abs((kept := budget.kept()) - budget.target) >= budget.largest:
            warnings.warn(
                f"Training ended with {kept:,} {budget.noun}, not the "
                f"{budget.target:,} asked for: it was stopped early, or a callback "
                "restored weights from before they were reached. "
                f"`EarlyStopping(start_from_epoch={self._end})` looks only at what "
                "comes after.",
                stacklevel=2,
            )

    def _plan(self, t):
        """Number of connections planned to be kept at a share `t` of the way."""
        curve = 1 - (1 - min(t, 1.0)) ** 3
        return round(self._budget.size * math.exp(math.log(self.density) * curve))

    def _kernels(self):
        kernels = prunable_kernels(self.model)
        return [k for k in kernels if k.mask is not None and k.mask.is_learned]

    def _heights(self):
        optimizer = self.model.scl_optimizer
        optimizer.build(self.model.trainable_variables)  # if no step has done it yet
        masks = self._budget.masks
        return self._budget.heights([optimizer.price_of(mask) for mask in masks])

    def _distance(self, count):
        return self._budget.distance(self._heights(), count)

    def _steer(self, done):
        """One step of the controller, with `done` of its training steps done.

        Mask variables fall by rate · λ an update, against what the task's gradients
        lift them. The lift is observed: it is what a distance has not fallen by. (An
        integral of the distance would wind up while no mask is near zero yet.)
        """
        optimizer = self.model.scl_optimizer
        share = optimizer.mask_updates_per_step
        if not share:
            return
        planned = int(self._total_steps * share)
        interval = max(1, min(20, planned // 100))
        if 0 <= done - self._last_look < interval:  # no more updates than steps
            return
        backend.synchronize(self.model)
        balance, distance, count, last, looked = optimizer.steering.numpy().tolist()
        updates = int(optimizer.mask_optimizer.iterations.numpy())
        elapsed = updates - looked
        goes_on = count > 0 and last <= done
        if goes_on and elapsed < interval:
            return
        rate = max(optimizer.mask_rate, 1e-12)
        cost = float(optimizer.connection_cost.numpy())
        if goes_on:
            lift = (self._distance(int(count)) - distance) / (rate * elapsed)
            balance += _GAIN * (lift + cost - balance)
        else:
            balance = cost
        horizon = max(1, min(_HORIZON * interval, planned // _HORIZON))
        count = self._plan((done + horizon / share) / self._total_steps)
        distance = self._distance(count)
        optimizer.connection_cost.assign(max(balance + distance / (rate * horizon), 0))
        optimizer.steering.assign([balance, distance, count, done, updates])
        self._last_look = done

    def _close_the_gap(self):
        """Cuts or restores the connections nearest to zero until the count is met."""
        budget, heights = self._budget, self._heights()
        highest = [height.max() for height in heights]
        for mask, height in zip(budget.masks, heights, strict=True):
            if mask.min_connections:  # every layer's strongest connection comes first
                height[np.argmax(height)] = np.inf
        ranked = np.concatenate(heights)
        order, sums = in_order(ranked, budget.sizes())
        number = max(nearest(sums, budget.target), int(np.isinf(ranked).sum()))
        kept = np.zeros(ranked.size, bool)
        kept[order[:number]] = True
        cutoff = ranked[kept].min()
        start = 0
        for mask, top in zip(budget.masks, highest, strict=True):
            s = mask.values()
            stop = start + s.size
            chosen = kept[start:stop].reshape(s.shape)
            moved = np.where(chosen, np.maximum(s, _NEAR), np.minimum(s, -_NEAR))
            if chosen.sum() == 1 and (top < cutoff or mask.is_down_to_last()):
                moved[chosen] = _BARELY_KEPT
            mask.variable.assign(moved)
            start = stop


_HORIZON = 5  # looks
_GAIN = 0.25
_NEAR = 1e-3
