"""`SCLModel`: a Keras model whose `fit` learns which connections matter."""

import inspect
import warnings
from collections.abc import Callable, MutableMapping
from typing import Any

import keras

from scl_keras import backend
from scl_keras.graph.multiply_accumulates import record_positions
from scl_keras.graph.walking import walk_inside
from scl_keras.layers.followers import connect_followers
from scl_keras.layers.masked_layer import MaskedLayer
from scl_keras.layers.reading import reading_masked
from scl_keras.masks.mask import find_masks
from scl_keras.training.functional import Functional, is_functional, make_functional
from scl_keras.training.loss_scaling import scaled_like, unscaled
from scl_keras.training.normalization import GradientNormalization
from scl_keras.training.optimizer import SCLOptimizer
from scl_keras.training.prices import cost_for
from scl_keras.training.random_states import load_states, save_states
from scl_keras.training.reporting import fit_with_hooks, step_logs
from scl_keras.training.skipped_batches import step_without_traces
from scl_keras.training.stillness import StillMasks, moving_afterwards
from scl_keras.types import Optimizer, Shape, Tensor


@keras.saving.register_keras_serializable("scl_keras")
class SCLModel(keras.Model):
    """A Keras model that learns its masks together with its weights.

    Use it like `keras.Model`: `SCLModel(inputs, outputs)`, or subclass it with your own
    `call`. `sparsify` makes one of any model.

    Besides the usual metrics, the logs of `fit` hold `sparsity`, that of all masked
    kernels. With `cost="macs"` they also hold `macs_sparsity`, the share of
    multiply-accumulates that is cut. `skipped_updates` is the number of batches with a
    NaN or infinite gradient; progress lines show it when it isn't zero. `MaskLogger`
    adds more. `loss` stays that of the task, comparable with the dense model's.

    Example:

    ```python
    inputs = keras.Input((64,))
    x = MaskedDense(32, activation="relu")(inputs)
    model = SCLModel(inputs, MaskedDense(10)(x))
    model.compile("adam", "mse", connection_cost=0.1)
    ```
    """

    optimizer_class: type[SCLOptimizer] = SCLOptimizer
    """What moves weights and masks."""

    masks_runtime = None
    """The runtime that `sparsify(model, runtime=...)` was given, or None."""

    def __new__(cls, *args, **kwargs):
        """Makes a functional model where inputs and outputs are given."""
        if cls is SCLModel and is_functional(args, kwargs):
            cls = FunctionalSCLModel
        return super().__new__(cls, *args, **kwargs)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        if is_functional(args, kwargs) and not isinstance(
            self, (Functional, keras.Sequential)
        ):
            make_functional(type(self), SCLModel, FunctionalSCLModel)
        super().__init__(*args, **kwargs)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the model; all that reads a masked kernel meanwhile reads it masked."""
        masked = [x for x in walk_inside(self) if isinstance(x, MaskedLayer)]
        with reading_masked([layer for layer in masked if layer.built]):
            return super().__call__(*args, **kwargs)

    def compile(
        self,
        *args: Any,
        mask_optimizer: Optimizer | None = None,
        connection_cost: float | None = None,
        cost: str | None = None,
        normalization: str | GradientNormalization | None = "network",
        **kwargs: Any,
    ) -> None:
        """Configures the model for training.

        Args:
            *args: As for `keras.Model.compile`, or the `compile` of the model's own
                class. The optimizer is that of the weights; or an `SCLOptimizer`, which
                then brings all of the arguments that are named here.
            mask_optimizer: Optimizer of the mask variables; by default plain SGD, whose
                rate `TargetSparsity` sets. That of another one is its own matter.
            connection_cost: `λ >= 0`, the price of keeping one connection, in units of
                a typical mask gradient. None: masks rest, until a callback such as
                `TargetSparsity` sets a price.
            cost: `"connections"`, or `"macs"` to weigh each connection by its
                multiply-accumulates. By default what serves the runtime that
                `sparsify(model, runtime=...)` was given, and connections without one.
            normalization: `"network"`, `"layer"`, `"feature"`, None or a
                `GradientNormalization`.
            **kwargs: As `args`.

        Raises:
            ValueError: If `mask_optimizer`, `connection_cost`, `cost` or
                `normalization` isn't as told above, or masks are priced without an
                optimizer.
        """
        super().compile(*args, **kwargs)
        of_masks = {
            "mask_optimizer": mask_optimizer,
            "connection_cost": connection_cost,
            "cost": cost,
        }
        given = {name: x for name, x in of_masks.items() if x is not None}
        if self.optimizer is None and given:
            raise ValueError(
                "Compiled without an optimizer, a model learns no masks either: give "
                f"`compile` one. Received: optimizer=None, {', '.join(given)}"
            )
        self.pair_optimizer(
            mask_optimizer=mask_optimizer,
            connection_cost=connection_cost,
            cost=cost,
            normalization=normalization,
        )

    def pair_optimizer(self, cost: str | None = None, **options: Any) -> None:
        """Puts what moves the masks beside the optimizer that Keras compiled.

        Args:
            cost: As for `compile`.
            **options: Other arguments of the `optimizer_class`, unless the user gave
                one to `compile`.

        Raises:
            ValueError: If `cost` or one of the `options` isn't what the optimizer
                takes.
        """
        cost = cost_for(self.masks_runtime, cost)
        optimizer, scaler = self.optimizer, None
        if optimizer is None:
            return
        # Loss scaling goes around both, since masks have gradients to scale, too.
        if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
            scaler, optimizer = optimizer, optimizer.inner_optimizer
        if isinstance(optimizer, self.optimizer_class):
            scaler, both = None, self.optimizer
        else:
            both = optimizer = self.optimizer_class(optimizer, cost=cost, **options)
        if self.built and optimizer.cost == "macs":
            record_positions(self)
        self.optimizer = both if scaler is None else scaled_like(scaler, both)

    def get_compile_config(self) -> dict[str, Any]:
        """What `compile_from_config` takes, with the optimizer of weights and masks."""
        config = super().get_compile_config()
        if config:
            serialize = keras.saving.serialize_keras_object
            config["optimizer"] = serialize(self.optimizer)
        return config

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compiles the model as `get_compile_config` described."""
        config = keras.saving.deserialize_keras_object(config)
        try:
            inspect.signature(super().compile).bind(**config)
        except TypeError as error:
            warnings.warn(  # as Keras does for every `compile` of one's own
                f"Model '{self.name}' was not compiled when it was loaded, because its "
                f"own `compile` takes other arguments: {error}. Compile it yourself.",
                stacklevel=2,
            )
            return
        self.compile(**config)
        if self.built and self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    @property
    def scl_optimizer(self) -> SCLOptimizer:
        """The `SCLOptimizer`, also where a loss-scaling optimizer wraps it.

        Raises:
            AttributeError: If the model isn't compiled, or without an optimizer.
        """
        optimizer = unscaled(getattr(self, "optimizer", None))
        if not isinstance(optimizer, SCLOptimizer):
            raise AttributeError(
                f"Model '{self.name}' has no optimizer yet: call `model.compile(...)` "
                "with one."
            )
        return optimizer

    @property
    def mask_optimizer(self) -> keras.optimizers.Optimizer:
        """The optimizer of the mask variables."""
        return self.scl_optimizer.mask_optimizer

    @property
    def connection_cost(self) -> keras.Variable:
        """The variable `λ`. Assign to it to change the cost: `.assign(0.2)`."""
        return self.scl_optimizer.connection_cost

    def fit(self, *args: Any, **kwargs: Any) -> keras.callbacks.History:
        """Trains the model, as `keras.Model.fit` or the `fit` of the model's own class.

        Progress lines show two of the masks' figures at most: see the class.

        Args:
            *args: As for `keras.Model.fit`.
            **kwargs: As for `keras.Model.fit`.

        Returns:
            The `History`.
        """
        still = [StillMasks()] if self._steps_as_keras_does() else []
        with moving_afterwards(self):
            return fit_with_hooks(super().fit, args, kwargs, still)

    def _steps_as_keras_does(self):
        """Whether nobody's own `train_step` may count on gradients of all variables."""
        step = getattr(super().train_step, "__func__", None)
        own = type(self).train_step is not SCLModel.train_step
        return step is keras.Model.train_step and not own

    def train_step(self, *args: Any) -> Any:
        """One step: gradients of the task loss, then `SCLOptimizer.apply`.

        Its arguments and what it returns are those of the Keras backend, as
        in `keras.Model.train_step`.

        The optimizer normalizes the mask gradients of each feature, adds the
        connection cost's and updates masks and weights; doing it there rather than here
        lets loss scaling, gradient accumulation and custom loops have it too. It skips
        batches with a NaN or infinite gradient, if loss scaling hasn't done so before;
        here, both are counted, and statistics such as those of batch normalization are
        kept from them.
        """
        return backend.train_step(self, super().train_step, *args)

    def masked_step(
        self, step: Callable[[], dict[str, Tensor]], data: Any
    ) -> dict[str, Tensor]:
        """What this class adds to the step of stock Keras, alike on all backends.

        Args:
            step: Function without arguments that makes that step, returning its logs.
            data: The batch.

        Returns:
            Dict of logs.
        """
        logs = step_without_traces(self, step)
        return {**logs, **self.connection_logs()}

    def statistics_move(self) -> bool | Tensor:
        """Whether running statistics follow the next step: a scalar, for subclasses."""
        return True

    def connection_logs(self) -> dict[str, Tensor]:
        """What the masks add to the logs: a dict of scalar tensors."""
        return step_logs(self, self.scl_optimizer)

    def quantize(self, *args: Any, **kwargs: Any) -> None:
        """Quantizes a model without masks, as `keras.Model.quantize` does.

        Raises:
            ValueError: If it has masks.
        """
        if masks := find_masks(self):
            raise ValueError(
                "Keras doesn't quantize layers with masks: it would leave all of them "
                "as they are. Take the masks out first, `strip_masks(model)`, and "
                "then call `quantize`: what is zero stays zero. Or let `export_tflite("
                f"model, path, samples=..., dtype='int8')` do it. Received: "
                f"model '{self.name}' with {len(masks)} masks"
            )
        super().quantize(*args, **kwargs)

    def save_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Saves the states of random layers, which Keras does not."""
        super().save_own_variables(store)
        save_states(self, store)

    def load_own_variables(self, store: MutableMapping[str, Any]) -> None:
        """Loads what `save_own_variables` saved."""
        super().load_own_variables(load_states(self, store))


def _signature_of_compile():
    """Keras's arguments, and those of `SCLModel.compile` after them."""
    own = inspect.signature(SCLModel.compile).parameters.values()
    own = [x for x in own if x.kind is x.KEYWORD_ONLY]
    stock = inspect.signature(keras.Model.compile).parameters.values()
    return inspect.Signature([*stock, *own])


# Any `compile` or `fit` may stand behind them, but mostly it is Keras's.
SCLModel.compile.__signature__ = _signature_of_compile()
SCLModel.fit.__signature__ = inspect.signature(keras.Model.fit)


@keras.saving.register_keras_serializable("scl_keras")
class FunctionalSCLModel(SCLModel, Functional):
    """What `SCLModel(inputs, outputs)` makes."""

    stock_class = Functional

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

    stock_class = keras.Sequential

    def build(self, input_shape: Shape | None = None) -> None:
        """Builds the layers, and connects those that share masks."""
        super().build(input_shape)
        connect_followers(self)
