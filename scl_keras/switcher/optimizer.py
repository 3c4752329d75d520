"""The optimizer of a switcher model: weights and switcher network take turns."""

from collections.abc import Sequence
from typing import Any, Self

import keras
from keras import ops

from scl_keras import backend, checks
from scl_keras.masks.granularity import Connection
from scl_keras.masks.mask import split_masks
from scl_keras.switcher.network import check_network, switcher_network
from scl_keras.switcher.switching import SwitchedKernel
from scl_keras.training.mask_rate import DEFAULT_MASK_LEARNING_RATE, ConstantRate
from scl_keras.training.normalization import GradientNormalization
from scl_keras.training.optimizer import SCLOptimizer
from scl_keras.types import Optimizer, Tensor

DEFAULT_TASK_STEPS = 4
DEFAULT_SWITCHER_STEPS = 1
DEFAULT_SWITCHER_LEARNING_RATE = 1e-3


@keras.saving.register_keras_serializable("scl_keras")
class SwitcherOptimizer(SCLOptimizer):
    """Updates the weights and a network that switches their connections, in turns.

    A switcher network `f` with parameters `φ` reads the values `v` of a kernel and says
    which of its connections are kept (Han et al., arXiv 2103.15590): the mask variable
    is `s = f_φ(v) - θ`, put into [-1, 1], and the kernel `v * H(s)`. `θ` is one
    threshold for all kernels. Both sides follow the same objective, `L_task + λ · Σ c ·
    H(s)`:

    - *The task's turn*, `task_steps` steps: the weights follow `dL_task/dv`. `s` stays
      as it was decided last, so that a step costs what it does in SCL.
    - *The switcher's turn*, `switcher_steps` steps: `s` is computed anew from the
      weights, which rest meanwhile, as do statistics such as those of batch
      normalization. The gradient that reaches `s` is that of SCL's mask variables,
      normalized and priced like it to `u = ĝ + λ · c · p(s)`, so that λ means the same:
      "how much of a typical mask gradient a connection must be worth". Only then it
      goes on to what `s` is computed with. Its mean over all connections moves `θ`, as
      plain SGD would move mask variables, `θ ← θ + rate · mean(u)`; what differs from
      the mean goes through `f`, and `φ` follows the mean of `(u - mean(u)) · df/dφ`.
      (Without this split a price on all connections, adding up in every parameter of a
      shared network, would outweigh all they have to say about single ones.)

    While the masks rest, being frozen (see `FreezeMasks`, `TargetSparsity`) or without
    a price, every step is the task's. `SwitcherModel.compile` makes one.

    Args:
        optimizer: Optimizer of the weights, as for `keras.Model.compile`. Its schedules
            count the task's steps.
        switcher_optimizer: Optimizer of the switcher network; by default Adam with
            learning rate 0.001.
        connection_cost: Float `λ >= 0`, the price of keeping one connection, see
            `SCLOptimizer`.
        cost: `"connections"` or `"macs"`, see `SCLOptimizer`.
        normalization: Of the gradients that reach `s`, see `SCLOptimizer`.
        switcher: The switcher network, a Keras model with the signature of
            `switcher_network`, which makes the default.
        task_steps: Length of the task's turn, at least 1.
        switcher_steps: Length of the switcher's turn, at least 1. See `TurnsByEpoch`
            for turns of whole epochs.
        threshold_learning_rate: The rate of `θ`.
        name: Name of the optimizer.

    Raises:
        ValueError: If `switcher` doesn't take what `switcher_network` makes, the number
            of `task_steps` or `switcher_steps` or the `threshold_learning_rate` isn't
            positive, or another argument isn't as for `SCLOptimizer`.

    Example:

    ```python
    optimizer = SwitcherOptimizer("adam", connection_cost=0.1, task_steps=8)
    model = SwitcherModel(dense_model)
    model.compile(optimizer, "mse")
    ```
    """

    def __init__(
        self,
        optimizer: Optimizer = "rmsprop",
        switcher_optimizer: Optimizer | None = None,
        connection_cost: float | None = None,
        cost: str = "connections",
        normalization: str | GradientNormalization | None = "network",
        switcher: keras.Model | None = None,
        task_steps: int = DEFAULT_TASK_STEPS,
        switcher_steps: int = DEFAULT_SWITCHER_STEPS,
        threshold_learning_rate: float = DEFAULT_MASK_LEARNING_RATE,
        name: str = "switcher_optimizer",
    ) -> None:
        wanted = "a whole number of steps, at least 1"
        task_steps = checks.integer("task_steps", task_steps, wanted, least=1)
        switcher_steps = checks.integer(
            "switcher_steps", switcher_steps, wanted, least=1
        )
        rate = checks.number(
            *("threshold_learning_rate", threshold_learning_rate),
            "a finite number >= 0",
            lambda x: x >= 0,
        )
        if switcher_optimizer is None:
            switcher_optimizer = keras.optimizers.Adam(DEFAULT_SWITCHER_LEARNING_RATE)
        super().__init__(
            optimizer, switcher_optimizer, connection_cost, cost, normalization, name
        )
        self.switcher = switcher_network() if switcher is None else switcher
        check_network(self.switcher)
        self.task_steps, self.switcher_steps = task_steps, switcher_steps
        self.threshold_learning_rate = rate
        self.mask_rate = ConstantRate(rate)
        self.threshold = self._own_variable("threshold", (), "float32")
        # Turns as they are now, and the steps done: what a resumed training needs.
        self.turns = self._own_variable("turns", (2,), "int32")
        self.turns.assign([self.task_steps, self.switcher_steps])
        self.steps = self._own_variable("steps", (), "int32")
        # Whether weights have moved since the switches were computed.
        self.stale = self._own_variable("stale", (), "bool", "ones")

    @property
    def may_leave_out_masks(self) -> bool:
        """False: its turns go on while masks are frozen."""
        return False

    def _build_for_masks(self, masks):
        if backend.replicas() > 1:
            raise ValueError(
                "A switcher model trains on one device: turns can't be taken in the "
                "conditional updates of several replicas. `SCLModel` can. Received: a "
                f"strategy of {backend.replicas()} replicas"
            )
        self.mask_optimizer.build(self.switcher.trainable_variables)
        self._masks = [variable.connection_mask for variable in masks]
        for mask in self._masks:
            if mask.granularity != Connection():
                raise ValueError(
                    "A switcher network switches connections one by one. Use "
                    '`granularity="connection"` with it, or let the masks be learned '
                    f"by themselves (`SCLModel`). Received: {mask.path} of granularity "
                    f"'{mask.granularity}'"
                )

    @property
    def switcher_optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer of the switcher network."""
        return self.mask_optimizer

    masks_have_starts = False  # the switcher network says where they are

    @property
    def mask_updates_per_step(self) -> float:
        """Share of the training steps that update masks, at present, a float."""
        task, switcher = ops.convert_to_numpy(self.turns).tolist()
        return super().mask_updates_per_step * switcher / (task + switcher)

    def is_switchers_turn(self) -> Tensor:
        """Whether the next step is the switcher's: a boolean scalar tensor."""
        task, switcher = self.turns[0], self.turns[1]
        late = self.steps % (task + switcher) >= task
        return ops.logical_and(late, ops.logical_not(self.masks_rest))

    def prepare_step(self) -> None:
        """Computes the switches anew if it is the switcher's turn and weights moved.

        And before the very first step, so that training starts with switches that are
        the switcher's. To be called before the forward pass, as `SwitcherModel` does.
        """
        moving = ops.logical_not(self.masks_rest)
        first = ops.logical_and(ops.equal(self.steps, 0), moving)
        due = ops.logical_or(first, self.is_switchers_turn())
        needed = ops.logical_and(due, self.stale)
        self._switch_cond(needed, self.switch, lambda: None)

    def _switch_cond(self, condition, if_true, if_false):
        variables = [*self._trainable_variables, *self.variables]
        backend.cond(condition, if_true, if_false, variables)

    def switch(self) -> None:
        """Sets all masks to what the switcher network says of the current weights."""
        self._switch(self._kernels())

    def _switch(self, kernels):
        for kernel in kernels:
            kernel.switch(self.switcher, self.threshold)
        self.stale.assign(False)

    def _kernels(self):
        sizes = [mask.size for mask in self._masks]
        return [SwitchedKernel(m, i, sizes) for i, m in enumerate(self._masks)]

    def _update(self, for_weights, for_masks, squares, weights, masks):
        update = super()._update

        def tasks_step():
            update(for_weights, [], {}, weights, [])
            self.stale.assign(True)

        def switchers_step():
            update([], for_masks, squares, [], masks)

        if masks:
            self._switch_cond(self.is_switchers_turn(), switchers_step, tasks_step)
        else:
            tasks_step()
        self.steps.assign_add(1)

    def _apply_to_masks(self, gradients, squares, masks):
        scales = self.normalization.scales(
            squares, self._masks, self._mean_squares, self.mask_optimizer.iterations
        )
        all_kernels = self._kernels()
        rows = zip(all_kernels, gradients, scales, masks, strict=True)
        # What the loss doesn't depend on has no say.
        rows = [row for row in rows if row[1] is not None]
        kernels = [kernel for kernel, *_ in rows]
        objectives = [
            kernel.objective(g, scale, self.connection_cost * self._prices[id(v)])
            for kernel, g, scale, v in rows
        ]
        mean = self._mean_objective(kernels, objectives)
        self.threshold.assign_add(self.threshold_learning_rate * mean)
        parameters = self.switcher.trainable_variables
        sums = [ops.zeros(v.shape, "float32") for v in parameters]
        for kernel, objective in zip(kernels, objectives, strict=True):
            sums = kernel.backpropagate(self.switcher, objective, mean, sums)
        size = float(sum(mask.size for mask in self._masks))
        if parameters:
            self.mask_optimizer.apply([total / size for total in sums], parameters)
        else:
            self.mask_optimizer.iterations.assign_add(1)
        self._switch(all_kernels)

    def _mean_objective(self, kernels, objectives):
        pairs = [k.sums(f) for k, f in zip(kernels, objectives, strict=True)]
        total, count = (sum(column) for column in zip(*pairs, strict=True))
        return total / ops.maximum(count, 1)

    @property
    def variables(self) -> list[keras.Variable]:
        """Own variables, those of both optimizers, and of the switcher network."""
        return super().variables + self.switcher.variables

    def finalize_variable_values(self, var_list: Sequence[keras.Variable]) -> None:
        """Lets both optimizers put their averages in place, if they keep any."""
        weights, _ = split_masks(var_list)
        self.optimizer.finalize_variable_values(weights)
        self.mask_optimizer.finalize_variable_values(self.switcher.trainable_variables)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for serialization."""
        config = super().get_config()
        config["switcher_optimizer"] = config.pop("mask_optimizer")
        return {
            **config,
            "switcher": keras.saving.serialize_keras_object(self.switcher),
            "task_steps": self.task_steps,
            "switcher_steps": self.switcher_steps,
            "threshold_learning_rate": self.threshold_learning_rate,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        """The optimizer that `get_config` described."""
        config = dict(config)
        for key in ("optimizer", "switcher_optimizer", "switcher"):
            config[key] = keras.saving.deserialize_keras_object(
                config[key], custom_objects=custom_objects
            )
        return cls(**config)
