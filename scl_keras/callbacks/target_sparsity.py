"""Reaching a sparsity that the user names, by steering the connection cost."""

import warnings

import keras

from scl_keras import backend, checks
from scl_keras.callbacks.after_target import warn_of_best_only
from scl_keras.callbacks.budget import OVER, Budget
from scl_keras.callbacks.descent import Descent
from scl_keras.callbacks.fit_listener import FitListener
from scl_keras.callbacks.plan import Plan
from scl_keras.graph.kernels import prunable_kernels
from scl_keras.graph.multiply_accumulates import record_positions
from scl_keras.masks.density import target_density
from scl_keras.masks.mask import find_masks
from scl_keras.training.distiller import network_of
from scl_keras.training.loss_scaling import is_looking_for_its_scale
from scl_keras.training.model import scl_optimizer_of
from scl_keras.training.prices import known_cost
from scl_keras.training.reporting import figures
from scl_keras.types import Logs


class TargetSparsity(FitListener):
    """Reaches a sparsity by an epoch, by steering the connection cost.

    No connection cost has to be found, and no sparsity per layer: one price holds for
    all connections, and this callback moves it so that the number kept follows

    `log N(t) = log N_0 + (1 - (1 - t)³) · (log N_target - log N_0)`

    from the first step of `fit` (`t = 0`) to the end of epoch `by_epoch` (`t = 1`),
    `N_0` being the number kept at first.

    Mask variables start in proportion to the magnitudes of the weights that they switch
    (`start_from_magnitudes`), so that what a trained network knows is used. Their
    rate falls by a cosine to zero at `t = 1` (`SCLOptimizer.mask_rate_at`), so that
    they come to rest in a state that the weights have adapted to. Both are ours, and
    can be left out: `start=None`, and `compile(mask_optimizer="sgd")` or any other
    optimizer, whose rate stays what it is. The rule of Tang et al. (arXiv 2201.05020)
    itself has no target: `compile(connection_cost=0.1, normalization="feature")`.

    The callback looks at the distance by which all mask variables would have to fall
    to meet the plan: how that moved since the last look tells the cost that would hold
    it, and what is added to this cost makes it vanish within the next steps. The last
    such distance is gone in one stroke, which makes the number exact, and the masks are
    frozen: what epochs are left fine-tune the weights. They stay frozen in a later
    `fit`, until `thaw_masks` or another target: one that is met by frozen masks has
    nothing to do.
    (Where a later target keeps more, the cost goes to zero, and what is missing in the
    end comes back in one stroke, first what is nearest to being kept.)

    `N` counts what `compile` puts a price on: connections, or with `cost="macs"`
    multiply-accumulates. (A target of connections with a price on multiply-accumulates
    takes convolutions first, and where single connections are switched all of these may
    be gone before the number is met: that is refused.) Masks of layers with
    `trainable=False`, and fixed ones, count, and stay as they are.

    A layer keeps its last connection (see `Mask`). Layers that would have lost it are
    printed. Where a mask variable switches several connections (see `Granularity`), the
    number is met up to one switch. With `NM(2, 4)` masks `TargetSparsity(0.5)` keeps
    two of every four, and a higher sparsity at most two.

    A loss or accuracy is best before connections go. So have a callback that keeps the
    best weights look only at what comes after the target:
    `AfterTarget(EarlyStopping(restore_best_weights=True))`. If training ends with
    another number of connections there is a warning, also for weights that another
    callback restored. No other callback should set the connection cost.

    Args:
        sparsity: Float in [0, 1), the share of masked connections to cut.
        compression: Instead: number of connections over number kept, at least 1.
        by_epoch: Number of epochs, from 1, after which it is reached, counted as
            `initial_epoch` is. By default after two thirds of the epochs of `fit`.
        verbose: 1 to print when it is reached, 0 not to.
        of: What there is to be less of: `"connections"`, or `"macs"`. By default what
            the model is compiled to pay for.
        over: `"masks"`: the target is one of all that has masks. `"model"`: of all
            weights of the model, biases and what has no masks included.
        start: `"magnitudes"`, or None to leave mask variables where they are. (Where a
            switcher network decides on masks, they have no start.)

    Raises:
        ValueError: If not exactly one target is given or one is out of range, or
            `by_epoch` is no whole number, or `of`, `over` or `start` is something else;
            at the start of `fit`, if it ends before `by_epoch` or begins after it, if
            the model pays for multiply-accumulates of single connections and the target
            is of these, if the target leaves less than a connection a layer or more
            than masks can keep (see `NM`), or if multiply-accumulates can't be counted;
            later, if there are no data, or every batch of an epoch was skipped: nothing
            is cut at random.

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
        start: str | None = "magnitudes",
    ) -> None:
        super().__init__()
        self.density = target_density("TargetSparsity", sparsity, compression)
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
        self.by_epoch = by_epoch
        self.verbose = verbose
        checks.one_of("start", start, ("magnitudes", None))
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
        self._budget = Budget(self._network, of, self.over, self.density)
        self._descent = Descent(self.model, self._optimizer, self._budget)
        names = {"macs": "macs_sparsity", "connections": "sparsity"}
        self._figure = "model_sparsity" if self.over == "model" else names[of]
        self._has_begun = False
        self._steps: int | None = None
        self._told = False

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
        if self._descent.is_frozen and budget.is_met():
            self._plan = Plan(epoch, epoch, budget.kept(), budget.target, 0, epoch)
            return
        if saved.goes_on(self._new_plan(saved.begin), epoch):
            self._plan = saved
        else:
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
        return Plan(begin, end, start, target, self._updates(), begin)

    def _updates(self):
        both = self._optimizer.optimizer, self._optimizer.mask_optimizer
        counts = [keras.ops.convert_to_numpy(x.iterations) for x in both]
        return int(sum(counts))

    def _know_steps(self, steps, done=0):
        """Begins to steer, `done` steps after the plan's begin."""
        self._steps = steps
        if not steps:
            return
        length = (self._plan.end - self._plan.begin) * steps
        self._descent.steer(self._plan.planned, done, length)

    def on_epoch_begin(self, epoch: int, logs: Logs = None) -> None:
        """Freezes the masks when the time has come, also in a resumed run."""
        backend.synchronize(self.model)
        self._epoch = epoch
        self._seen = 0
        self._skipped = int(self._optimizer.skipped_updates.numpy())
        if not self._has_begun:
            self._has_begun = True
            self._make_plan(epoch)
        if self._steps:
            self._descent.begin_epoch()
        if epoch == self._plan.end and not self._descent.is_frozen:
            self._close_the_gap()  # saved before this callback's turn, and resumed
        self._descent.freeze(epoch >= self._plan.end)
        if epoch < self._plan.end:
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
            self._check_data()
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

    def _check_data(self):
        """Refuses to cut where no batch has told which connections matter."""
        skipped = int(self._optimizer.skipped_updates.numpy()) - self._skipped
        if not self._seen:
            problem = "there are no data: it had no batch"
        elif skipped >= self._seen and not is_looking_for_its_scale(
            self.model.optimizer
        ):
            problem = f"all of its {self._seen} batches had NaN or infinite gradients"
        else:
            return
        raise ValueError(
            f"`TargetSparsity` can't tell which connections matter in epoch "
            f"{self._epoch + 1}, since {problem}. Look at the data, the loss and the "
            f"learning rate. Received: {self._seen} batches, {skipped} of them skipped"
        )

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
        if self._told or budget.is_met():
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
                "`TargetSparsity` can't tell which connections matter: no batch has "
                "updated weights or masks. Give more data or epochs, or fewer "
                f"`gradient_accumulation_steps`. Received: {self._epoch + 1} epochs"
            )
        self._descent.meet()
