"""The sparsest network that is still as good as the user wants."""

import dataclasses
import math
import warnings
from collections.abc import Mapping

import keras
import numpy as np

from scl_keras import backend, checks
from scl_keras.callbacks.after_target import warn_of_best_only
from scl_keras.callbacks.allowance import Allowance
from scl_keras.callbacks.baseline import (
    MODES,
    Baseline,
    is_accuracy,
    measure,
    samples_of,
    sign_of,
)
from scl_keras.callbacks.budget import Budget
from scl_keras.callbacks.compression_search import CompressionSearch
from scl_keras.callbacks.descent import Descent
from scl_keras.callbacks.fit_listener import FitListener
from scl_keras.callbacks.held_states import (
    HeldState,
    HeldStates,
    from_arrays,
    to_arrays,
)
from scl_keras.callbacks.plan import ease
from scl_keras.callbacks.retreat import retreat
from scl_keras.callbacks.scl_optimizer import scl_optimizer_of
from scl_keras.graph.multiply_accumulates import record_positions
from scl_keras.training.distiller import network_of
from scl_keras.training.last_rate import last_rate
from scl_keras.types import Logs

_LEAST_EPOCHS = 3
_LOOK = ("epoch", "compression", "drop", "may_lose")


class TargetAccuracy(FitListener):
    """Finds the sparsest network whose validated metric stays within a bound.

    Give it a trained network, and say what you can spare. In the first epoch masks
    rest, and the metric shows what the learning rate alone costs. Then connections are
    cut for as long as the metric holds (`CompressionSearch`). Where it doesn't hold,
    the network gets time to recover, or the last state that held comes back.

    In the last third of the epochs masks are frozen, and weights are fine-tuned. If the
    metric doesn't hold then, the last state that held comes back, or some connections
    do, with a weight of zero (`retreat`). If none held, the dense weights come back,
    with connections cut for half of the way. In the end the model is the sparsest state
    that holds. If there is none, the dense weights come back, with a warning.

    Each epoch of the search runs like a `TargetSparsity` of its own: most connections
    go at its beginning, and the learning rate of the masks falls by a cosine to zero at
    its end. So masks are at rest when the metric is measured.

    A high learning rate itself costs accuracy. So more than the bound may be lost
    during training: half of what that rate alone costs while the search runs, a quarter
    while weights are fine-tuned (`Allowance`). Compile with a rate that falls to zero,
    as `CosineDecay` does. With a constant rate nothing is added to the bound.

    Validation data are a sample. If the metric is an accuracy over `n` samples that can
    be counted, the bound is tightened by half of the standard error of the drop,
    `sqrt(max_drop / n)`. The best of many looks flatters, so measure what you report on
    test data.

    Args:
        max_drop: What may be lost, a positive float in units of the metric: 0.01 is one
            point of accuracy. For a metric that should be small: what it may rise by.
        monitor: Name of the metric in the logs of `fit`.
        mode: `"max"` or `"min"`: whether the metric should be large or small. `"auto"`
            asks Keras, which knows this of its own metrics.
        baseline: The metric of the dense model. By default that of the model when `fit`
            begins, on the `validation_data` of `fit`.
        margin: By how many standard errors the bound is tightened, at least 0.
        verbose: 1 to print what is decided after each epoch, 0 not to.

    Attributes:
        history: List with a dict for each epoch: `epoch`, `compression`, `drop` and
            `may_lose`.
        met: After `fit`: whether the model meets the bound.

    Raises:
        ValueError: If a number is out of its range or `mode` isn't one of these. When
            `fit` begins: if it has less than three epochs, or no validation data and no
            `baseline`, or if the model has no masks that learn. Later: if the metric
            isn't in the logs, if nothing tells whether it should be large or small, or
            if every batch of an epoch was skipped.

    Example:

    ```python
    steps = 15 * -(-len(x) // 32)
    rate = keras.optimizers.schedules.CosineDecay(1e-3, steps)
    model.compile(keras.optimizers.Adam(rate), "mse", metrics=["mae"])
    target = TargetAccuracy(max_drop=0.1, monitor="val_mae")
    model.fit(x, y, epochs=15, validation_data=(x, y), callbacks=[target])
    ```
    """

    def __init__(
        self,
        max_drop: float = 0.01,
        monitor: str = "val_accuracy",
        mode: str = "auto",
        baseline: float | None = None,
        margin: float = 0.5,
        verbose: int = 0,
    ) -> None:
        super().__init__()
        wanted = "a finite number > 0 in units of the metric: 0.01 is one point"
        self.max_drop = checks.number("max_drop", max_drop, wanted, lambda x: x > 0)
        self.margin = checks.number(
            "margin", margin, "a finite number >= 0", lambda x: x >= 0
        )
        if baseline is not None:
            baseline = checks.number("baseline", baseline, "a finite number, or None")
        self.baseline, self.verbose = baseline, verbose
        self.mode = checks.one_of("mode", mode, MODES)
        if not isinstance(monitor, str):
            raise checks.refusal("monitor", monitor, "the name of a metric")
        self.monitor = monitor
        self.history: list[dict[str, float]] = []
        self.met = False

    def on_train_begin(self, logs: Logs = None) -> None:
        """Measures the model as it is."""
        first, epochs = self._arguments.get("initial_epoch", 0), self.params["epochs"]
        if first >= epochs:
            raise _too_few(epochs - first)
        optimizer = scl_optimizer_of(self)
        network = network_of(self.model)
        if optimizer.cost == "macs":
            record_positions(network)
        budget = Budget(network, optimizer.cost, "masks")
        self._descent = Descent(self.model, optimizer, budget)
        value = self.baseline
        if value is None:
            value = measure(self.model, self.monitor, self._arguments)
        counts = self.margin > 0 and is_accuracy(self.monitor)
        samples = samples_of(self._arguments) if counts else None
        # Metrics that haven't been computed yet don't tell which way they go.
        self._sign_is_known = self.mode != "auto" or self.baseline is None
        sign = self._sign() if self._sign_is_known else 1
        self._baseline = Baseline(self.monitor, float(value), sign, samples)
        error = self._baseline.standard_error(self.max_drop)
        self._allowance = Allowance(max(self.max_drop - self.margin * error, 0.0))
        self._dense = self._start = HeldState.of(self.model, self._place(), 0.0)
        self._states = HeldStates(self._allowance.bound)
        self._has_begun = False
        self.history, self.met = [], False
        warn_of_best_only(self._others)

    def _sign(self):
        return sign_of(self.monitor, self.mode, self.model)

    def _place(self):
        budget = self._descent.budget
        return math.log(budget.size / max(budget.kept(), 1))

    def _make_plan(self, epoch):
        left = self.params["epochs"] - epoch
        if left < _LEAST_EPOCHS:
            raise _too_few(left)
        self._begin, self._end = epoch + 1, epoch + left - max(1, round(left / 3))
        self._search = CompressionSearch(self._end - self._begin, held=self._place())
        self._next = self._search.held + self._search.speed
        self._steps = int(self.params.get("steps") or 0)  # 0: not known yet
        self._descent.rest()
        self._descent.freeze(False)  # those of an earlier target, too

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Has masks rest, or go on from where they are to where the search wants."""
        backend.synchronize(self.model)
        if not self._has_begun:
            self._make_plan(epoch)
            self._has_begun = True
        self._epoch, self._seen = epoch, 0
        self._descent.count_skipped()
        if not self._is_searching():
            return
        descent = self._descent
        if epoch == self._begin:
            descent.start("magnitudes")
            self._start = HeldState.of(self.model, self._place(), 0.0)
        else:
            descent.forget()
        self._from = self._place()
        done = (epoch - self._begin) * self._steps
        descent.steer(self._planned, done, done + self._steps)
        descent.look(done)  # an epoch may have but one step

    def _is_searching(self):
        return self._begin <= self._epoch < self._end

    def _planned(self, share):
        """The number to be kept at a share of the epoch."""
        return self._count(self._from + ease(share) * (self._next - self._from))

    def _count(self, place):
        """The number that is kept at the logarithm of a compression."""
        return max(round(self._descent.budget.size * math.exp(-place)), 1)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Moves the connection cost, every few steps."""
        self._seen = batch + 1
        if not self._is_searching():
            return
        done = (self._epoch - self._begin) * self._steps
        done += min(self._seen, self._steps)
        self._descent.look(done)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Looks at the metric, and decides on the next epoch."""
        backend.synchronize(self.model)
        self._descent.check_epoch(type(self).__name__, epoch, self._seen)
        self._steps = self._steps or self._seen
        if not self._sign_is_known:
            self._sign_is_known = True
            self._baseline.drop(logs or {})  # refuses a metric that isn't there
            self._baseline = dataclasses.replace(self._baseline, sign=self._sign())
        place, drop = self._place(), self._baseline.drop(logs or {})
        may_lose = self._may_lose(drop)
        look = epoch, math.exp(place), drop, may_lose
        self.history.append(dict(zip(_LOOK, look, strict=True)))
        if self._epoch >= self._begin:
            if drop <= may_lose and place > self._dense.log_compression:
                self._states.keep(HeldState.of(self.model, place, drop))
            decide = self._search_on if self._is_searching() else self._tune_on
            decide(place, drop, may_lose)
        if self.verbose:
            self._print()

    def _may_lose(self, drop):
        optimizer = self._descent.optimizer
        rate = float(keras.ops.convert_to_numpy(optimizer.learning_rate))
        if self._epoch < self._begin:
            self._allowance.learn(drop, rate)
        last = last_rate(optimizer, self._steps * self.params["epochs"])
        is_tuning = self._epoch >= self._end
        return self._allowance.at(max(rate - last, 0.0), is_tuning)

    def _search_on(self, place, drop, may_lose):
        self._next, goes_back = self._search.look(place, drop, may_lose)
        if self._epoch == self._end - 1:
            self._tune_on(place, drop, may_lose)
            self._descent.freeze(True)
        elif goes_back:
            self._go_back(place)

    def _tune_on(self, place, drop, may_lose):
        if drop <= may_lose or self._epoch == self.params["epochs"] - 1:
            return
        held = self._states.sparsest(below=place)
        if held is None:
            self._go_half_way(place)
            return
        wanted = retreat(place, drop, may_lose, self._allowance.bound, held)
        if wanted == place:
            return
        # A channel that comes back has a bias, too, and would change the outputs.
        channels = any(m.switches_channels for m in self._descent.budget.learned)
        if wanted is None or channels:
            held.restore(self.model)
        else:
            self._descent.grow(self._count(wanted))

    def _go_half_way(self, place):
        """Gives the network its dense weights back, and half of the way to them."""
        masks = self._descent.budget.learned
        values = [mask.values() for mask in masks]
        self._dense.restore(self.model)
        for mask, value in zip(masks, values, strict=True):
            mask.variable.assign(value)
        self._descent.meet(self._count(place / 2))

    def _go_back(self, place):
        (self._states.sparsest(below=place) or self._start).restore(self.model)

    def _print(self):
        look = self.history[-1]
        print(
            f"\nEpoch {look['epoch'] + 1}: {look['compression']:.3g}x compressed, "
            f"{self.monitor} lost {look['drop']:.4g} and may lose "
            f"{look['may_lose']:.4g}; going on from {math.exp(self._place()):.3g}x"
        )

    def backup_state(self) -> dict[str, np.ndarray]:
        """What a resumed `fit` needs of it, for `SafeBackup`: arrays by name."""
        search = dataclasses.asdict(self._search)
        numbers = [
            *(self._begin, self._end, self._steps, self._next, self._baseline.value),
            *(self._allowance.bound, self._allowance.per_rate, search["speed"]),
            *(search["held"], search["lost"], search["before"]),
        ]
        return {
            "numbers": np.array(numbers),
            "looks": np.array([list(look.values()) for look in self.history]),
            **to_arrays([self._dense, self._start, *self._states.states]),
        }

    def restore_state(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Goes on from what `backup_state` gave."""
        begin, end, steps, self._next, value, *others = arrays["numbers"].tolist()
        bound, per_rate, speed, held, lost, before = others
        self._allowance = Allowance(bound, per_rate)
        self._begin, self._end, self._steps = int(begin), int(end), int(steps)
        self._baseline = dataclasses.replace(self._baseline, value=value)
        epochs = self._end - self._begin
        self._search = CompressionSearch(epochs, speed, held, lost, before)
        self.history = [
            {**dict(zip(_LOOK, look, strict=True)), "epoch": int(look[0])}
            for look in arrays["looks"].tolist()
        ]
        self._dense, self._start, *self._states.states = from_arrays(arrays)
        self._has_begun = True

    def on_train_end(self, logs: Logs = None) -> None:
        """Leaves the sparsest state that held, and says if there is none."""
        backend.synchronize(self.model)
        self.leave_best()

    def leave_best(self) -> None:
        """Gives the model the sparsest state that held, or else the dense one.

        For a `fit` that an exception has ended: Keras doesn't call `on_train_end` then.
        """
        if not self._has_begun:
            return
        self._descent.freeze(True)
        state = self._states.sparsest(self._allowance.bound)
        self.met = state is not None
        (state or self._dense).restore(self.model)
        if not self.met and self.history:
            least = min(self.history[1:] or self.history, key=lambda x: x["drop"])
            warnings.warn(
                f"`TargetAccuracy` found no sparse network within the bound and left "
                f"the dense one: the best, {least['compression']:.3g}x compressed, "
                f"lost {least['drop']:.4g} of {self.monitor}, and "
                f"{self._allowance.bound:.4g} may be lost. Train for more epochs, at a "
                "learning rate that falls to nothing at their end, or allow for more.",
                stacklevel=2,
            )


def _too_few(epochs):
    return ValueError(
        "`TargetAccuracy` needs an epoch to look at the learning rate, one to cut and "
        f"one to fine-tune, so at least {_LEAST_EPOCHS}, better 12 or more, from "
        f"`initial_epoch` on. Received: {epochs} epochs"
    )
