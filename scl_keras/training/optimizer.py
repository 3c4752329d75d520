"""The optimizer of an SCL model: one rule for the weights, one for the masks."""

from collections.abc import Callable, Sequence
from typing import Any, Self

import keras
import numpy as np
from keras import ops

from scl_keras import backend, checks
from scl_keras.masks.mask import Mask, split_masks
from scl_keras.training.accumulation import Accumulation, take_means
from scl_keras.training.gradients import are_finite, with_zeros
from scl_keras.training.mask_rate import (
    DEFAULT_MASK_LEARNING_RATE,
    ConstantRate,
    MaskRate,
)
from scl_keras.training.normalization import GradientNormalization
from scl_keras.training.pair import PairedOptimizer
from scl_keras.training.prices import connection_prices, known_cost
from scl_keras.types import Optimizer, Tensor

NO_COST = -1.0  # masks rest


@keras.saving.register_keras_serializable("scl_keras")
class SCLOptimizer(PairedOptimizer):
    """Updates weights and masks together, each with an optimizer of its own.

    The weights get their gradients as they are. Mask variables follow

    `ĝ + λ · c · p(s)`

    where `ĝ` is the normalized gradient of the task loss (`GradientNormalization`), `λ`
    the connection cost, `c` the price of the connection and `p` the proxy derivative
    of the mask's STE: the gradient of `L_task + λ · Σ c · H(s)` (Tang et al., arXiv
    2201.05020). Without normalization it is exactly that gradient. A mask variable that
    switches `n` connections has the price of `n`.

    `SCLModel.compile` makes one; by itself it serves custom training loops, where it is
    used like any Keras optimizer on `model.trainable_variables`. Its learning rate and
    iterations are those of the weights' optimizer.

    Args:
        optimizer: Optimizer of the weights, as for `keras.Model.compile`.
        mask_optimizer: Optimizer of the mask variables; by default plain SGD with
            learning rate 0.003, which `TargetSparsity` lets fall (`MaskRate`). The
            rate of one that is given is its own matter.
        connection_cost: Float `λ >= 0`, the price of keeping one connection, in units
            of a typical mask gradient. A variable: schedules and callbacks may
            assign to `optimizer.connection_cost`. None: masks rest until one does.
        cost: `"connections"` (`c = 1`), or `"macs"`: `c` is the connection's number of
            multiply-accumulates over the network's mean number.
        normalization: `"network"`, `"layer"`, `"feature"`, None or a
            `GradientNormalization`.
        name: Name of the optimizer.

    Raises:
        ValueError: If one of the optimizers isn't known to Keras or moves masks
            already, `connection_cost` is below 0 or not finite, or `cost` or
            `normalization` isn't one of those above.

    Example:

    ```python
    import tensorflow as tf

    optimizer = SCLOptimizer("adam", connection_cost=0.1)
    loss_function = keras.losses.MeanSquaredError()
    with tf.GradientTape() as tape:
        loss = optimizer.scale_loss(loss_function(y, model(x, training=True)))
    gradients = tape.gradient(loss, model.trainable_variables)
    optimizer.apply(gradients, model.trainable_variables)
    ```
    """

    masks_have_starts = True
    """Whether mask variables move from where they were put."""

    def __init__(
        self,
        optimizer: Optimizer = "rmsprop",
        mask_optimizer: Optimizer | None = None,
        connection_cost: float | None = None,
        cost: str = "connections",
        normalization: str | GradientNormalization | None = "network",
        name: str = "scl_optimizer",
    ) -> None:
        falls = mask_optimizer is None
        if falls:
            mask_optimizer = keras.optimizers.SGD(DEFAULT_MASK_LEARNING_RATE)
        super().__init__(optimizer, mask_optimizer, name)
        self.mask_rate: MaskRate | ConstantRate = MaskRate(self.mask_optimizer, falls)
        if connection_cost is not None:
            wanted = "a finite number >= 0, or None"
            connection_cost = checks.number(
                "connection_cost", connection_cost, wanted, lambda x: x >= 0
            )
        first_cost = NO_COST if connection_cost is None else connection_cost
        self._accumulation: Accumulation | None = None  # made by `build`, if asked for
        # On PyTorch, Keras makes objects of a subclass.
        self._descends_plainly = type(self.mask_optimizer) is type(
            keras.optimizers.SGD()
        )
        self.cost = known_cost(cost)
        self.normalization = GradientNormalization.get(normalization)
        self.connection_cost = self._own_variable(
            "connection_cost", (), "float32", keras.initializers.Constant(first_cost)
        )
        self.skipped_updates = self._own_variable("skipped_updates", (), "int32")
        # The `SteeringState` of `TargetSparsity`, here so that it is saved with the
        # model, and its `Plan`.
        self.steering = self._own_variable("steering", (5,), "float32")
        self.plan = self._own_variable("plan", (9, 2), "int32")

    @property
    def frozen(self) -> Tensor:
        """Whether all masks are frozen (see `freeze_masks`): a boolean scalar."""
        flags = [ops.cast(flag, "int32") for flag in self._frozen_flags()]
        return ops.equal(sum(flags), max(len(flags), 1))

    @property
    def masks_rest(self) -> Tensor:
        """Whether no mask moves, all being frozen or without a price: a scalar."""
        return ops.logical_or(self.frozen, self.connection_cost < 0)

    def _frozen_flags(self):
        _, masks = split_masks(self._trainable_variables)
        return [v.frozen for v in masks]

    def unused_masks(self) -> list[Mask]:
        """Those that no loss has depended on in any update, once there was one.

        They stay as they are: their price alone would cut them all.
        """
        _, masks = split_masks(self._trainable_variables)  # none before `build`
        unused = [v for v in masks if not bool(self._seen_gradients[id(v)].numpy())]
        return [v.connection_mask for v in unused if len(unused) < len(masks)]

    @property
    def variables(self) -> list[keras.Variable]:
        """Own variables, those of both optimizers, and which masks are frozen."""
        return super().variables + self._frozen_flags()

    def build(self, variables: Sequence[keras.Variable]) -> None:
        """Creates the state of both optimizers for `variables`, masks and weights."""
        if self.built:
            return
        weights, masks = split_masks(variables)
        self.optimizer.build(weights)
        self._build_for_masks(masks)
        self._prices = connection_prices(masks, self.cost)
        shapes = self.normalization.state_shapes([v.connection_mask for v in masks])
        self._mean_squares = {
            key: self._own_variable("mean_square", shape, "float32")
            for key, shape in shapes.items()
        }
        self._seen_gradients = {
            id(v): self._own_variable("seen_gradient", (), "bool") for v in masks
        }
        if steps := self.optimizer.gradient_accumulation_steps:
            self._accumulation = Accumulation(self, masks, steps)
        super().build(variables)

    def _build_for_masks(self, masks):
        self.mask_optimizer.build(masks)

    def apply(
        self,
        grads: Sequence[Tensor | None],
        trainable_variables: Sequence[keras.Variable] | None = None,
    ) -> None:
        """Updates weights and masks, if no gradient is NaN or infinite.

        One bad batch would destroy all masks at once. It is skipped, and counted in
        `skipped_updates`. So is each one while `connection_cost` is NaN or infinite,
        which is part of all mask gradients.

        Args:
            grads: Gradients of the (scaled) task loss, a tensor or None a variable.
            trainable_variables: The variables; by default those of `build`.
        """
        # Keras calls it without variables on some backends, and keeps them here.
        variables = list(trainable_variables or self._trainable_variables)
        self.build(variables)
        grads = backend.sum_over_replicas(grads)
        gradient_of = {id(v): g for v, g in zip(variables, grads, strict=True)}
        weights, masks = split_masks(variables)
        masks = [v for v in masks if not v.connection_mask.is_still]
        for_weights = [gradient_of[id(v)] for v in weights]
        for_masks = self._unscaled([gradient_of[id(v)] for v in masks])
        squares = self._mean_squares_of(for_masks, masks)
        finite = are_finite([*for_weights, *squares.values()])
        finite = ops.logical_and(finite, ops.isfinite(self.connection_cost))
        args = (for_weights, for_masks, squares, weights, masks)
        self._cond(finite, self._update, self._skip, args)

    def _cond(self, condition, if_true, if_false, args):
        variables = [*self._trainable_variables, *self.variables]
        backend.replicated_cond(condition, if_true, if_false, args, variables)

    def _update(self, for_weights, for_masks, squares, weights, masks):
        if weights:
            # Both optimizers add up over replicas what is the sum already.
            share = backend.replicas()
            if share > 1:
                for_weights = [None if g is None else g / share for g in for_weights]
            self.optimizer.apply(for_weights, weights)
        if masks:
            self._update_masks(for_masks, squares, masks)

    def _skip(self, *_):
        self.skipped_updates.assign_add(1)

    def _unscaled(self, gradients):
        scale = self.optimizer.loss_scale_factor
        # Undivided without a scale: where nothing is compiled, a copy would stay.
        return [None if g is None else g / scale if scale else g for g in gradients]

    def _mean_squares_of(self, gradients, masks):
        owners = [v.connection_mask for v in masks]
        gradients = with_zeros(gradients, masks)
        return self.normalization.mean_squares(gradients, owners) if masks else {}

    def _update_masks(self, gradients, squares, masks):
        if self._accumulation is None:
            self._apply_to_masks(gradients, squares, masks)
            return
        sums = self._accumulation.add(gradients, masks)
        self.own_iterations.assign_add(1)

        def update(sums, masks):
            means = take_means(sums, gradients)
            self._apply_to_masks(means, self._mean_squares_of(means, masks), masks)

        full = ops.equal(self.own_iterations % self._accumulation.steps, 0)
        self._cond(full, update, lambda *_: None, (sums, masks))

    def _apply_to_masks(self, gradients, squares, masks):
        before = [] if self._stops_without_gradient else [v + 0 for v in masks]
        moving = [
            (1 - ops.cast(self._rests(v), "float32")) / backend.replicas()
            for v in masks
        ]
        scales = self.normalization.scales(
            squares,
            [v.connection_mask for v in masks],
            self._mean_squares,
            self.mask_optimizer.iterations,
        )
        updates = [
            self._mask_update(g, moves, scale, v)
            for g, moves, scale, v in zip(gradients, moving, scales, masks, strict=True)
        ]
        self.mask_optimizer.apply(updates, masks)
        for variable, value in zip(masks, before, strict=False):
            new = ops.convert_to_tensor(variable)
            variable.assign(ops.where(self._rests(variable), value, new))

    def _rests(self, variable):
        """Whether a mask variable stays as it is: it is frozen, or nothing costs."""
        return ops.logical_or(variable.frozen, self.connection_cost < 0)

    def _mask_update(self, gradient, moving, scale, variable):
        # What the loss doesn't depend on stays: a price alone would cut it all.
        if gradient is None:
            return ops.zeros(variable.shape, variable.dtype)
        # Scalars first: passes over whole kernels are what an update costs.
        normalized = ops.cast(gradient, "float32") * (moving * scale)
        seen = self._seen_gradients[id(variable)]
        paying = moving * self.connection_cost * backend.has_gradient(gradient, seen)
        update = normalized + paying * self._price(variable)
        return ops.cast(update, variable.dtype)

    def _price(self, variable):
        """`n · c · p(s)`, without `n` where updates are per connection."""
        mask = variable.connection_mask
        slope = mask.ste.derivative(ops.cast(mask.deciding(), "float32"))
        return self.price_of(mask) * slope

    def price_of(self, mask: Mask) -> float | np.ndarray:
        """How fast a mask falls for each unit of cost: a float or array."""
        price = self._prices[id(mask.variable)]
        return price * self.normalization.priced_connections(mask)

    def connection_loss(self, count: Callable[[Mask], Tensor] = Mask.count) -> Tensor:
        """`λ · Σ c · H(s)` over the masks it was built with, a scalar tensor.

        Args:
            count: Function from a `Mask` to its number of kept connections.
        """
        _, masks = split_masks(self._trainable_variables)
        kept = [ops.cast(count(v.connection_mask), "float32") for v in masks]
        prices = [self._prices[id(v)] for v in masks]
        total = sum(price * n for price, n in zip(prices, kept, strict=True))
        return ops.maximum(self.connection_cost, 0) * total

    @property
    def _stops_without_gradient(self):
        """Whether masks without a gradient stay; if not, freezing restores them."""
        masks = self.mask_optimizer
        return (
            self._descends_plainly
            and not masks.momentum
            and not masks.weight_decay
            and not masks.use_ema
        )

    @property
    def may_leave_out_masks(self) -> bool:
        """Whether frozen masks may be left out of a step, see `StillMasks`.

        Momentum and averages of masks would change meanwhile, so would gradients that
        are being accumulated, and a schedule of the masks' rate counts all steps.
        """
        goes_on = bool(self.optimizer.gradient_accumulation_steps)
        rate = self.mask_optimizer.get_config()["learning_rate"]
        goes_on |= isinstance(rate, dict)  # a schedule
        return self._stops_without_gradient and not goes_on

    @property
    def mask_updates_per_step(self) -> float:
        """Share of the training steps that update masks, at present, a float."""
        return 1 / (self.optimizer.gradient_accumulation_steps or 1)

    def get_config(self) -> dict[str, Any]:
        """Constructor arguments, for serialization."""
        serialize = keras.saving.serialize_keras_object
        cost = float(ops.convert_to_numpy(self.connection_cost))
        return {
            "optimizer": serialize(self.optimizer),
            "mask_optimizer": None
            if self.mask_rate.falls
            else serialize(self.mask_optimizer),
            "connection_cost": None if cost < 0 else cost,
            "cost": self.cost,
            "normalization": serialize(self.normalization),
            "name": self.name,
        }

    @classmethod
    def from_config(
        cls, config: dict[str, Any], custom_objects: dict[str, Any] | None = None
    ) -> Self:
        """The optimizer that `get_config` described."""
        config = dict(config)
        for key in ("optimizer", "mask_optimizer"):
            config[key] = keras.saving.deserialize_keras_object(
                config[key], custom_objects=custom_objects
            )
        return cls(**config)
