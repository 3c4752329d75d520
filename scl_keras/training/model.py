"""`SCLModel`: a Keras model whose `fit` learns which connections matter."""

import keras
from keras import ops

from scl_keras import backend
from scl_keras.graph.multiply_accumulates import record_positions
from scl_keras.graph.walking import running_statistics
from scl_keras.layers.followers import connect_followers
from scl_keras.masks.mask import find_masks
from scl_keras.training.optimizer import DEFAULT_CONNECTION_COST, SCLOptimizer


@keras.saving.register_keras_serializable("scl_keras")
class SCLModel(keras.Model):
    """A Keras model that learns its masks together with its weights.

    It is used as `keras.Model` is: `SCLModel(inputs, outputs)`, or subclassed with a
    `call` of one's own. `sparsify` makes one of a stock model. Besides the usual
    metrics, the logs of `fit` hold `connection_loss` (`λ · Σ c · H(s)`), `density`,
    `sparsity` and `compression` of all masked kernels, and `skipped_updates`, the
    number of batches with a NaN or infinite gradient; `loss` stays the task's, and
    comparable with the dense model's.

    Example:

    ```python
    inputs = keras.Input((64,))
    x = MaskedDense(32, activation="relu")(inputs)
    model = SCLModel(inputs, MaskedDense(10)(x))
    model.compile("adam", "mse", connection_cost=0.1)
    ```
    """

    def __new__(cls, *args, **kwargs):
        """Makes a functional model where inputs and outputs are given."""
        if cls is SCLModel and _is_functional(args, kwargs):
            cls = FunctionalSCLModel
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args, **kwargs):
        if _is_functional(args, kwargs) and not isinstance(
            self, (_Functional, keras.Sequential)
        ):
            _make_functional(type(self))
        super().__init__(*args, **kwargs)

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        loss_weights=None,
        metrics=None,
        weighted_metrics=None,
        run_eagerly=False,
        steps_per_execution=1,
        jit_compile="auto",
        auto_scale_loss=True,
        *,
        mask_optimizer=None,
        connection_cost=DEFAULT_CONNECTION_COST,
        cost="connections",
        normalization="network",
    ):
        """Configures the model for training.

        Args:
            optimizer: Optimizer of the weights; or an `SCLOptimizer`, which then brings
                all of the last four arguments.
            loss: As for `keras.Model.compile`, and so are the next seven.
            loss_weights: See `loss`.
            metrics: See `loss`.
            weighted_metrics: See `loss`.
            run_eagerly: See `loss`.
            steps_per_execution: See `loss`.
            jit_compile: See `loss`.
            auto_scale_loss: See `loss`.
            mask_optimizer: Optimizer of the mask variables; by default plain SGD.
            connection_cost: `λ >= 0`, the price of keeping one connection, in units of
                a typical mask gradient.
            cost: `"connections"`, or `"flops"` to weigh each connection by its
                multiply-accumulates.
            normalization: `"network"`, `"layer"`, `"feature"`, None or a
                `GradientNormalization`.

        Raises:
            ValueError: If an argument is something else.
        """
        optimizer = keras.optimizers.get(optimizer)
        scaler = None
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            scaler, optimizer = optimizer, optimizer.inner_optimizer
        if not isinstance(optimizer, SCLOptimizer):
            optimizer = SCLOptimizer(
                optimizer, mask_optimizer, connection_cost, cost, normalization
            )
        if self.built and optimizer.cost == "flops":
            record_positions(self)
        # Around both optimizers, since masks have gradients to scale, too. Keras would
        # do it by itself, but not write it to a file: the file would then load only
        # where the policy happens to be mixed_float16.
        if scaler is not None:
            optimizer = scaled_like(scaler, optimizer)
        elif auto_scale_loss and self.dtype_policy.name == "mixed_float16":
            optimizer = keras.optimizers.LossScaleOptimizer(optimizer)
        super().compile(
            optimizer=optimizer,
            loss=loss,
            loss_weights=loss_weights,
            metrics=metrics,
            weighted_metrics=weighted_metrics,
            run_eagerly=run_eagerly,
            steps_per_execution=steps_per_execution,
            jit_compile=jit_compile,
            auto_scale_loss=auto_scale_loss,
        )

    def compile_from_config(self, config):
        """Compiles the model as `get_compile_config` described."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built:
            self.optimizer.build(self.trainable_variables)

    @property
    def scl_optimizer(self):
        """The `SCLOptimizer`, also where a loss-scaling optimizer wraps it."""
        optimizer = unscaled(getattr(self, "optimizer", None))
        if optimizer is None:
            raise ValueError(
                f"Model '{self.name}' has no optimizer yet: call `model.compile(...)`."
            )
        return optimizer

    @property
    def mask_optimizer(self):
        """The optimizer of the mask variables."""
        return self.scl_optimizer.mask_optimizer

    @property
    def connection_cost(self):
        """The variable `λ`. Assign to it to change the cost: `.assign(0.2)`."""
        return self.scl_optimizer.connection_cost

    def train_step(self, *args):
        """One step: gradients of the task loss, then `SCLOptimizer.apply`.

        Its arguments and what it returns are those of the Keras backend, as
        in `keras.Model.train_step`.

        The optimizer normalizes the mask gradients of each feature, adds the
        connection cost's and updates masks and weights; doing it there rather than here
        lets loss scaling, gradient accumulation and custom loops have it too. It skips
        batches with a NaN or infinite gradient; here, statistics such as those of batch
        normalization are kept from them.
        """
        return backend.train_step(self, super().train_step, *args)

    def guarded_step(self, step, data):
        """What this class adds to the step of stock Keras, alike on all backends.

        Args:
            step: Function without arguments that makes that step, returning its logs.
            data: The batch.

        Returns:
            Dict of logs.
        """
        statistics = running_statistics(self)
        before = [v + 0 for v in statistics]
        skipped_before = self.scl_optimizer.skipped_updates + 0
        moving = self.statistics_move()
        logs = step()
        # Statistics of a skipped batch may be finite: gradients alone may overflow, and
        # on some processors TensorFlow's `relu` makes 0 of NaN.
        used = ops.equal(self.scl_optimizer.skipped_updates + 0, skipped_before)
        moving = ops.logical_and(moving, used)
        for variable, value in zip(statistics, before, strict=True):
            new = ops.convert_to_tensor(variable)
            taken = ops.logical_and(moving, ops.isfinite(new))
            variable.assign(ops.where(taken, new, value))
        return {**logs, **self.connection_logs()}

    def statistics_move(self):
        """Whether running statistics follow the next step: a scalar, for subclasses."""
        return True

    def connection_logs(self):
        """What the masks add to the logs: a dict of scalar tensors."""
        masks = find_masks(self)
        if not masks:
            return {}
        size = float(sum(mask.size for mask in masks))
        counts = {id(mask): mask.count() for mask in masks}
        kept = ops.cast(sum(counts.values()), "float32")
        loss = self.scl_optimizer.connection_loss(lambda mask: counts[id(mask)])
        return {
            "connection_loss": loss,
            "density": kept / size,
            "sparsity": 1 - kept / size,
            "compression": size / kept,
            "skipped_updates": self.scl_optimizer.skipped_updates + 0,
        }

    def save_own_variables(self, store):
        """Saves the states of random layers, which Keras does not."""
        super().save_own_variables(store)
        for i, state in enumerate(self._random_states()):
            store[f"{_RANDOM}{i}"] = state.numpy()

    def load_own_variables(self, store):
        """Loads what `save_own_variables` saved."""
        keys = list(store.keys())  # Keras's stores can't be iterated over
        own = {key: store[key] for key in keys if not key.startswith(_RANDOM)}
        super().load_own_variables(own)
        states = self._random_states()
        if len(keys) - len(own) == len(states):  # not so in files of older models
            for i, state in enumerate(states):
                state.assign(store[f"{_RANDOM}{i}"])

    def _random_states(self):
        known = {id(v) for v in self.weights + self.metrics_variables}
        return [v for v in self.variables if id(v) not in known]


_RANDOM = "random_state_"


def scl_optimizer_of(callback):
    """The `SCLOptimizer` of the model that a callback was given.

    Raises:
        ValueError: If the model has none.
    """
    optimizer = unscaled(getattr(callback.model, "optimizer", None))
    if not isinstance(optimizer, SCLOptimizer):
        raise ValueError(
            f"`{type(callback).__name__}` needs a compiled `SCLModel`: `sparsify` "
            f"makes one. Received: {callback.model!r}"
        )
    return optimizer


def unscaled(optimizer):
    """An optimizer without the `LossScaleOptimizer` around it, if there is one."""
    return getattr(optimizer, "inner_optimizer", optimizer)


def scaled_like(scaler, optimizer):
    """The loss scaling of one `LossScaleOptimizer` around another optimizer."""
    return keras.optimizers.LossScaleOptimizer(
        optimizer, scaler.initial_scale, scaler.dynamic_growth_steps
    )


def _is_functional(args, kwargs):
    """Whether these are the arguments of a functional model, as Keras has it."""
    given = len(args) + ("inputs" in kwargs) + ("outputs" in kwargs)
    return len(args) >= 2 or (given == 2 and "outputs" in kwargs)


def _make_functional(cls):
    """Puts `FunctionalSCLModel` under a subclass, in the place of `SCLModel`."""
    for base in cls.__bases__:
        if base is not SCLModel and issubclass(base, SCLModel):
            _make_functional(base)
    cls.__bases__ = tuple(
        FunctionalSCLModel if base is SCLModel else base for base in cls.__bases__
    )


# Keras exports the class of functional models only through its instances. Inheriting
# from it here keeps Keras from rewriting the bases of `SCLModel` when the first
# functional one is made, after which subclassing `SCLModel` would fail.
_Functional = type(keras.Model(*[keras.Input((), name="x")] * 2, name="x"))


@keras.saving.register_keras_serializable("scl_keras")
class FunctionalSCLModel(SCLModel, _Functional):
    """What `SCLModel(inputs, outputs)` makes."""

    # Keras tells by these arguments that it may save the graph.
    def __init__(self, inputs, outputs, name=None, **kwargs):
        super().__init__(inputs, outputs, name=name, **kwargs)
        connect_followers(self)


@keras.saving.register_keras_serializable("scl_keras")
class SCLSequential(SCLModel, keras.Sequential):
    """`keras.Sequential` that learns its masks.

    Example:

    ```python
    model = SCLSequential([keras.Input((64,)), MaskedDense(10)])
    model.compile("adam", "mse")
    ```
    """

    def build(self, input_shape=None):
        """Builds the layers, and connects those that share masks."""
        super().build(input_shape)
        connect_followers(self)
