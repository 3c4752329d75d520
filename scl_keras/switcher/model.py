"""`SwitcherModel`: a Keras model whose connections another network switches."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from scl_keras import checks
from scl_keras.conversion.copying import copy_model
from scl_keras.conversion.putting import put_masks_into
from scl_keras.masks.mask import find_masks
from scl_keras.masks.settings import MaskSettings
from scl_keras.switcher.optimizer import (
    DEFAULT_SWITCHER_STEPS,
    DEFAULT_TASK_STEPS,
    SwitcherOptimizer,
)
from scl_keras.training.model import FunctionalSCLModel, SCLModel
from scl_keras.training.normalization import GradientNormalization
from scl_keras.types import Optimizer, Tensor


@keras.saving.register_keras_serializable("scl_keras")
class SwitcherModel(SCLModel):
    """A Keras model with a second network that reads its weights and cuts connections.

    `SwitcherModel(model)` puts masks over the fully connected layers of a built model,
    in place as `sparsify` does, and returns the same model. `fit` then trains the model
    and the switcher network in turns toward one objective, `L_task + λ · Σ c · H(s)`
    (Han et al., *Explore the Knowledge contained in Network Weights to Obtain Sparse
    Neural Networks*, arXiv 2103.15590). `SwitcherOptimizer` has the rule,
    `switcher_network` the network.

    The switches are kept in the masks, as in any `SCLModel`. So logs, callbacks,
    `summary`, `effective_masks`, `strip_masks`, `compact` and `export_tflite` work on
    it, and prediction doesn't need the switcher network. Instead of a model it also
    takes the `inputs, outputs` of a graph with masked layers; like `SCLModel`, it can
    be subclassed.

    Args:
        model: A built Keras model.
        layers: Keyword: which of its layers to switch, as for `sparsify`; by default
            all `Dense`.
        ste: Keyword: straight-through estimator of the switches, as for `sparsify`.
        copy: Keyword: whether to leave the model as it is, and take an independent
            copy, as for `sparsify`.

    Raises:
        ValueError: If the model isn't built, has none of the layers, or has masks
            already.

    Example:

    ```python
    dense = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    model = SwitcherModel(dense)
    model.compile("adam", "mse", connection_cost=0.1)
    ```
    """

    optimizer_class = SwitcherOptimizer

    def __new__(cls, *args, **kwargs):
        """Puts masks into a model, or makes a functional one of inputs and outputs."""
        model = args[0] if args else kwargs.get("model")
        if cls is SwitcherModel and isinstance(model, keras.Model):
            return _switched(*args, **kwargs)
        if cls is SwitcherModel and (args or kwargs):
            inputs = kwargs.get("inputs", model)
            leaves = keras.tree.flatten(inputs)
            if not leaves or not all(isinstance(x, keras.KerasTensor) for x in leaves):
                wanted = "a built Keras model, or `inputs, outputs` of a graph"
                raise checks.refusal("model", inputs, wanted)
        if cls is SwitcherModel and (args or "inputs" in kwargs):
            cls = FunctionalSwitcherModel
        return super().__new__(cls)

    def compile(
        self,
        *args: Any,
        switcher: keras.Model | None = None,
        switcher_optimizer: Optimizer | None = None,
        task_steps: int = DEFAULT_TASK_STEPS,
        switcher_steps: int = DEFAULT_SWITCHER_STEPS,
        connection_cost: float | None = None,
        cost: str | None = None,
        normalization: str | GradientNormalization | None = "network",
        **kwargs: Any,
    ) -> None:
        """Configures the model for training.

        Args:
            *args: As for `keras.Model.compile`, or the `compile` of the model's own
                class. The optimizer is that of the weights; or a `SwitcherOptimizer`,
                which then brings all of the arguments that are named here.
            switcher: The switcher network, see `switcher_network`. By default a new
                one, also when the model is compiled again: give `model.switcher` to go
                on with the one that has learned.
            switcher_optimizer: Its optimizer; by default Adam.
            task_steps: Number of steps in a row that train the weights.
            switcher_steps: Number of steps in a row that train the switcher then. See
                `TurnsByEpoch` for turns of whole epochs.
            connection_cost: As for `SCLModel.compile`.
            cost: As for `SCLModel.compile`.
            normalization: As for `SCLModel.compile`.
            **kwargs: As `args`.

        Raises:
            ValueError: If `switcher` doesn't take what `switcher_network` makes, the
                number of `task_steps` or `switcher_steps` isn't positive, or another
                argument isn't as for `SCLModel.compile`.
        """
        if "mask_optimizer" in kwargs:
            raise ValueError(
                "The masks of a `SwitcherModel` are set by its switcher. Instead of "
                "`mask_optimizer`, give `switcher_optimizer`, which trains it. "
                f"Received: mask_optimizer={kwargs['mask_optimizer']!r}"
            )
        super(SCLModel, self).compile(*args, **kwargs)
        self.pair_optimizer(
            switcher_optimizer=switcher_optimizer,
            connection_cost=connection_cost,
            cost=cost,
            normalization=normalization,
            switcher=switcher,
            task_steps=task_steps,
            switcher_steps=switcher_steps,
        )

    @property
    def switcher(self) -> keras.Model:
        """The switcher network."""
        return self.scl_optimizer.switcher

    def masked_step(
        self, step: Callable[[], dict[str, Tensor]], data: Any
    ) -> dict[str, Tensor]:
        """One step, of the side whose turn it is; see `SwitcherOptimizer`."""
        if not self.built:  # a subclassed model
            self(keras.utils.unpack_x_y_sample_weight(data)[0])
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        self.scl_optimizer.prepare_step()
        return super().masked_step(step, data)

    def statistics_move(self) -> Tensor:
        """Not in the switcher's turn: all but the switcher rests."""
        return ops.logical_not(self.scl_optimizer.is_switchers_turn())


@keras.saving.register_keras_serializable("scl_keras")
class FunctionalSwitcherModel(SwitcherModel, FunctionalSCLModel):
    """What `SwitcherModel(inputs, outputs)` makes."""

    stock_class = FunctionalSCLModel.stock_class

    # Keras tells by these arguments that it may save the graph.
    def __init__(self, inputs, outputs, name=None, **kwargs):
        super().__init__(inputs, outputs, name=name, **kwargs)
        if not any(mask.is_learned for mask in find_masks(self)):
            raise ValueError(
                "A switcher has nothing to switch in a graph without learned masks. "
                f"Received: inputs={inputs}, outputs={outputs}"
            )


def _switched(
    model, *args, layers=keras.layers.Dense, ste="identity", copy=False, **others
):
    """The model itself, with masks over the layers to switch."""
    if others:
        raise TypeError(
            "`SwitcherModel(model)` takes `layers`, `ste` and `copy`; how it learns is "
            f"said to `compile`. Received: {', '.join(others)}"
        )
    if args:
        raise ValueError(
            "`SwitcherModel(model)` takes the layers to switch by keyword: "
            f"`SwitcherModel(model, layers=...)`. Received: {args[0]!r}"
        )
    if find_masks(model):
        raise ValueError(
            "`SwitcherModel` puts masks of its own over a stock model, and this one "
            f"has masks: `strip_masks` removes them. Received: model '{model.name}'"
        )
    return put_masks_into(
        copy_model(model) if copy else model,
        layers,
        MaskSettings(ste=ste),
        trained_as=SwitcherModel,
        verbose=0,
    )
