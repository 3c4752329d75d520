"""Reaching a sparsity that the user names, by steering the connection cost."""

import math
import warnings

import keras
import numpy as np

from scl_keras import backend
from scl_keras.callbacks.budget import OVER, Budget
from scl_keras.callbacks.steering import Steering
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.multiply_accumulates import record_positions
from scl_keras.masks.density import in_order, nearest, target_density
from scl_keras.masks.granularity import Connection
from scl_keras.masks.mask import _BARELY_KEPT, find_masks
from scl_keras.training.model import scl_optimizer_of
from scl_keras.training.prices import known_cost
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

    `N` counts what `compile` puts a price on: connections, or with `cost="macs"`
    multiply-accumulates. (A target of connections with a price on multiply-accumulates
    takes convolutions first, and where single connections are switched all of these may
    be gone before the number is met: that is refused.) Masks of layers with
    `trainable=False`, and fixed ones, count, and stay as they are.

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
        of: What there is to be less of: `"connections"`, or `"macs"`. By default what
            the model is compiled to pay for.
        over: `"masks"`: the target is one of all that has masks. `"model"`: of all
            weights of the model, biases and what has no masks included.

    Raises:
        ValueError: If not exactly one target is given or one is out of range, or
            `by_epoch` is no whole number, or `of` or `over` is something else; at the
            start of `fit`, if it ends before `by_epoch`, if the model pays for
            multiply-accumulates of single connections and the target is of these, if
            the target leaves less than a connection a layer, or if multiply-accumulates
            can't be counted.

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
        of: str | None = None,
        over: str = "masks",
    ) -> None:
        super().__init__()
        self.density = target_density("TargetSparsity", sparsity, compression)
        if by_epoch is not None and (by_epoch < 1 or by_epoch != int(by_epoch)):
            raise ValueError(
                "`by_epoch` must be a whole number >= 1, or None for two thirds of the "
                f"epochs. Received: by_epoch={by_epoch}"
            )
        of = None if of is None else known_cost(of, "of")
        if over not in OVER:
            raise ValueError(f"`over` must be one of {OVER}. Received: over={over!r}")
        if over == "model" and of == "macs":
            raise ValueError(
                "`over='model'` counts weights, of which many multiply nothing. "
                "Received: of='macs'"
            )
        self.by_epoch = by_epoch and int(by_epoch)
        self.verbose = verbose
        self.of, self.over = of, over

    def on_train_begin(self, logs: Logs = None) -> None:
        """Checks the target against the model and the length of the training."""
        epochs = self.params["epochs"]
        self._end = self.by_epoch or max(1, round(epochs * 2 / 3))
        if self._end > epochs:
            raise ValueError(
                f"`by_epoch` is {self.by_epoch}, but `fit` ends earlier. "
                f"Received: epochs={epochs}"
            )
        of = self._counts()
        if of == "macs":
            record_positions(self.model)
        self._budget = Budget(self.model, of, self.over, self.density)
        self._know_steps(self.params.get("steps"))

    def _counts(self):
        """What the target is of: what the model pays for, unless told otherwise."""
        paid = scl_optimizer_of(self).cost
        of = self.of or ("connections" if self.over == "model" else paid)
        masks = find_masks(self.model)
        if of != paid == "macs" and any(m.granularity == Connection() for m in masks):
            raise ValueError(
                f"The target counts {'weights' if self.over == 'model' else of}, but "
                "the model is compiled to pay for multiply-accumulates: convolutions "
                "would go to nothing before enough connections of dense layers are "
                "cut. Compile it with `cost='connections'`, or let the target follow. "
                f"Received: of={self.of!r}, over={self.over!r} and cost={paid!r}"
            )
        return of

    def _know_steps(self, steps):
        self._steps = steps
        if steps:
            self._steering = Steering(
                self.model.scl_optimizer,
                lambda count: self._budget.distance(self._heights(), count),
                self._plan,
                self._end * steps,
            )

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Freezes the masks when the time has come, also in a resumed run."""
        self._epoch = epoch
        self._seen = 0
        if self._steps:
            self._steering.begin_epoch()
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
        done = self._epoch * self._steps + min(self._seen, self._steps)
        if self._steering.is_due(done):
            backend.synchronize(self.model)
            self._steering.look(done)

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
            masks = find_masks(self.model)
            kept = sum(int(mask.count()) for mask in masks)
            size = sum(mask.size for mask in masks)
            figures = (cost, kept / size, 1 - kept / size, size / kept)
            keys = ("connection_loss", "density", "sparsity", "compression")
            logs.update(zip(keys, figures, strict=True))
        moving = {id(mask) for mask in budget.masks}
        labels = [
            kernel.label
            for kernel in prunable_kernels(self.model)
            if id(kernel.mask) in moving and kernel.mask.is_down_to_last()
        ]
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

    def _heights(self):
        optimizer = self.model.scl_optimizer
        optimizer.build(self.model.trainable_variables)  # if no step has done it yet
        masks = self._budget.masks
        return self._budget.heights([optimizer.price_of(mask) for mask in masks])

    def _close_the_gap(self):
        """Cuts or restores the connections nearest to zero until the count is met."""
        budget, heights = self._budget, self._heights()
        highest = [height.max() for height in heights]
        for mask, height in zip(budget.masks, heights, strict=True):
            if mask.min_connections:  # every layer's strongest connection comes first
                height[np.argmax(height)] = np.inf
        ranked = np.concatenate(heights)
        order, sums = in_order(ranked, budget.sizes())
        target = budget.of_masks(budget.target)
        number = max(nearest(sums, target), int(np.isinf(ranked).sum()))
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


_NEAR = 1e-3
