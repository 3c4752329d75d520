"""Reaching a number of connections by an epoch, by steering the connection cost."""

import warnings

import keras

from scl_keras import backend, checks
from scl_keras.callbacks.after_target import warn_of_best_only
from scl_keras.callbacks.budget import OVER, Budget
from scl_keras.callbacks.descent import Descent
from scl_keras.callbacks.fit_listener import FitListener
from scl_keras.callbacks.plan import Plan
from scl_keras.callbacks.scl_optimizer import scl_optimizer_of
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.multiply_accumulates import record_positions
from scl_keras.masks.mask import find_masks
from scl_keras.training.distiller import network_of
from scl_keras.training.prices import known_cost
from scl_keras.training.reporting import figures
from scl_keras.types import Logs

_CORRECTED = tuple(4**k for k in range(16))  # epochs before the end


class SteeredTarget(FitListener):
    """What `TargetSparsity` and its kin share: all but how many are to be kept.

    Args:
        by_epoch: See `TargetSparsity`.
        verbose: See `TargetSparsity`.
        of: See `TargetSparsity`.
        over: See `TargetSparsity`.
        start: See `TargetSparsity`.
    """

    def __init__(
        self,
        by_epoch: int | None,
        verbose: int,
        of: str | None,
        over: str,
        start: str | None,
    ) -> None:
        super().__init__()
        if by_epoch is not None:
            wanted = "a whole number >= 1, or None for two thirds of the epochs"
            by_epoch = checks.integer("by_epoch", by_epoch, wanted, least=1)
        of = None if of is None else known_cost(of, "of")
        checks.one_of("over", over, OVER)
        if over == "model" and of == "macs":
            raise ValueError(
                "`over='model'` counts weights, of which many multiply nothing. "
                "Received: of='macs'"
            )
        checks.one_of("start", start, ("magnitudes", None))
        self.by_epoch = by_epoch
        self.verbose = verbose
        self.of, self.over, self.start = of, over, start

    def on_train_begin(self, logs: Logs = None) -> None:
        """Checks the target against the model and the length of the training."""
        epochs = self.params["epochs"]
        if self.by_epoch and self.by_epoch > epochs:
            raise ValueError(
                f"`by_epoch` is {self.by_epoch}, but `fit` ends earlier. "
                f"Received: epochs={epochs}"
            )
        self._optimizer = scl_optimizer_of(self)
        self._network = network_of(self.model)
        of = self._counts()
        if of == "macs":
            record_positions(self._network)
        self._budget = Budget(self._network, of, self.over)
        self._check()
        self._descent = Descent(self.model, self._optimizer, self._budget)
        self._check_epochs()
        names = {"macs": "macs_sparsity", "connections": "sparsity"}
        self._figure = "model_sparsity" if self.over == "model" else names[of]
        self._has_begun = False
        self._steps: int | None = None
        self._told = False

    def _check_epochs(self):
        """Refuses a `fit` without epochs, unless there is nothing to do."""
        first, epochs = self._arguments.get("initial_epoch", 0), self.params["epochs"]
        if first < epochs or self._is_met_and_frozen(Plan.read(self._optimizer.plan)):
            return
        raise ValueError(
            f"`{type(self).__name__}` has no epoch to reach its target in: `epochs` is "
            "the number of the last one, counted from the very first, and not how many "
            f"follow on `initial_epoch`. Give a number above {first}. "
            f"Received: initial_epoch={first}, epochs={epochs}"
        )

    def _is_met_and_frozen(self, saved):
        """Whether there is nothing to do, `saved` being the plan of before."""
        if saved.goal == self._goal():
            self._budget.target = saved.target
        return self._descent.is_frozen and self._is_met()

    def _counts(self):
        """What the target is of: what the model pays for, unless told otherwise."""
        paid = self._optimizer.cost
        of = self.of or ("connections" if self.over == "model" else paid)
        masks = find_masks(self._network)
        if of != paid == "macs" and any(m.switches_connections for m in masks):
            raise ValueError(
                f"The target counts {'weights' if self.over == 'model' else of}, but "
                "the model is compiled to pay for multiply-accumulates: convolutions "
                "would go to nothing before enough connections of dense layers are "
                "cut. Compile it with `cost='connections'`, or let the target follow. "
                f"Received: of={self.of!r}, over={self.over!r} and cost={paid!r}"
            )
        return of

    def _make_plan(self, epoch):
        """The plan that `fit` begins or goes on with: here, after restored backups."""
        budget, saved = self._budget, Plan.read(self._optimizer.plan)
        if self._is_met_and_frozen(saved):
            met = budget.kept(), budget.target
            self._plan = Plan(epoch, epoch, *met, 0, epoch, goal=self._goal())
            return
        if saved.goes_on(self._new_plan(saved.begin), epoch):
            self._plan = saved
        else:
            self._aim()
            self._plan = self._new_plan(epoch)
            self._descent.start(self.start)
            warn_of_best_only(self._others)
        if self._plan.begin >= self._plan.end:
            raise ValueError(
                f"`by_epoch` is {self.by_epoch}, but `fit` begins after epoch {epoch}, "
                f"with {budget.kept():,} {budget.noun} and not the {budget.target:,} "
                "asked for. Give a later one, or None for two thirds of the epochs "
                f"that are left. Received: epochs={self.params['epochs']}"
            )
        plan = self._plan
        self._know_steps(self.params.get("steps") or plan.steps, plan.counting)

    def _new_plan(self, begin):
        left = self.params["epochs"] - begin
        end = self.by_epoch or begin + max(1, round(left * 2 / 3))
        start, target = max(self._budget.kept(), 1), self._budget.target
        return Plan(
            *(begin, end, start, target, self._updates(), begin), goal=self._goal()
        )

    # What a target is: `TargetSparsity` knows it from the start, others measure it.

    def _check(self):
        """Refuses what can be told to be impossible before anything is restored."""

    def _goal(self):
        """A number that tells this goal from others, an int from 0."""
        return self._budget.target

    def _is_met(self):
        """Whether masks are as asked for."""
        return self._budget.is_met()

    def _aim(self):
        """Sets `Budget.target` for a new plan."""

    def _correct(self, roughly):
        """Sets `Budget.target` to what the masks of now say, or roughly so."""

    def _updates(self):
        both = self._optimizer.optimizer, self._optimizer.mask_optimizer
        counts = [keras.ops.convert_to_numpy(x.iterations) for x in both]
        return int(sum(counts))

    def _know_steps(self, steps, done=0):
        """Begins to steer, `done` steps after the plan's begin."""
        self._steps = steps
        if not steps:
            return
        plan = self._plan
        length = (plan.end - plan.begin) * steps
        self._descent.steer(plan.planned, done, length, lambda: plan.falls_from)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Freezes the masks when the time has come, also in a resumed run."""
        backend.synchronize(self.model)
        self._epoch = epoch
        self._seen = 0
        self._descent.count_skipped()
        if not self._has_begun:
            self._has_begun = True
            self._make_plan(epoch)
        if epoch > self._plan.begin:
            self._leave_out_unused()
        if self._steps:
            self._descent.begin_epoch()
        if epoch == self._plan.end and not self._descent.is_frozen:
            self._close_the_gap()  # saved before this callback's turn, and resumed
        self._descent.freeze(epoch >= self._plan.end)
        if epoch < self._plan.end:
            left = self._plan.end - epoch
            if self._plan.epoch < epoch and left in _CORRECTED:
                self._correct(roughly=True)
                self._plan.target = self._budget.target
            self._plan.epoch = epoch
            self._plan.write(self._optimizer.plan)

    def on_train_batch_end(self, batch: int, logs: Logs = None) -> None:
        """Moves the connection cost, every few steps."""
        self._seen = batch + 1
        # Data of unknown length are counted for an epoch first, in which masks rest
        # if `compile` was given no price. A batch's number may
        # jump: with `steps_per_execution` only the last of each execution comes here.
        # On JAX, Keras drops what is assigned after the last batch of such data. That
        # look is lost, in a resumed run as in others: the next epoch begins with one.
        if self._epoch >= self._plan.end or not self._steps:
            return
        done = (self._epoch - self._plan.begin) * self._steps
        done += min(self._seen, self._steps)
        self._descent.look(done)

    def on_epoch_end(self, epoch: int, logs: Logs = None) -> None:
        """Makes the number exact at the end of epoch `by_epoch`."""
        backend.synchronize(self.model)
        if epoch < self._plan.end:
            name = type(self).__name__
            self._descent.check_epoch(name, epoch, self._seen)
            self._leave_out_unused()
            if not self._steps:
                plan = self._plan
                plan.steps = self._seen
                plan.counting = (epoch + 1 - plan.begin) * self._seen
                plan.write(self._optimizer.plan)  # a resumed run doesn't count again
                self._know_steps(plan.steps, plan.counting)
        if epoch == self._plan.end - 1:
            self._close_the_gap()
            self._descent.freeze(True)
            self._tell()
        if logs is not None:
            self._log(logs)

    def _leave_out_unused(self):
        """Has masks that no loss depends on count as ones that stay."""
        unused = self._optimizer.unused_masks()
        ids = {id(mask) for mask in unused}
        kernels = prunable_kernels(self._network)
        names = [kernel.label for kernel in kernels if id(kernel.mask) in ids]
        self._budget.leave_out(unused, names)

    def _log(self, logs):
        budget = self._budget
        found = figures(self._network, self._optimizer)
        found[self._figure] = 1 - budget.kept() / budget.size
        asked = {"sparsity", self._figure, *logs}
        logs.update({key: value for key, value in found.items() if key in asked})

    def _tell(self):
        budget = self._budget
        moving = {id(mask) for mask in budget.masks}
        labels = [
            kernel.label
            for kernel in prunable_kernels(self._network)
            if id(kernel.mask) in moving and kernel.mask.is_down_to_last()
        ]
        if labels:
            print("\nDown to their last connection: " + ", ".join(labels))
        if self.verbose:
            kept, size, noun = budget.kept(), budget.size, budget.noun
            print(f"\n{kept:,} of {size:,} {noun} kept; masks are frozen.")

    def on_train_end(self, logs: Logs = None) -> None:
        """Warns if the model isn't left with the target."""
        self._warn_if_missed()

    def after_fit(self) -> None:
        """Warns if a callback that stands after this one has undone the target."""
        self._warn_if_missed()

    def _warn_if_missed(self):
        budget = self._budget
        if not self._has_begun or self._told or budget.is_met():
            return
        self._told = True
        warnings.warn(
            f"Training ended with {budget.kept():,} {budget.noun}, not the "
            f"{budget.target:,} asked for: it was stopped early, or a callback "
            "restored weights from before they were reached. "
            "`AfterTarget(EarlyStopping(...))` looks only at what comes after.",
            stacklevel=2,
        )

    def _close_the_gap(self):
        """Cuts or restores the connections nearest to zero until the count is met."""
        if self._updates() <= self._plan.updates:
            raise ValueError(
                f"`{type(self).__name__}` can't tell which connections matter: no "
                "batch has updated weights or masks. Give more data or epochs, or "
                "fewer `gradient_accumulation_steps`. "
                f"Received: {self._epoch + 1} epochs"
            )
        self._correct(roughly=False)
        self._plan.target = self._budget.target
        self._plan.write(self._optimizer.plan)
        self._descent.meet(self._budget.target)
