"""`SwitcherModel`: a Keras model whose connections another network switches."""

import keras
from keras import ops

from scl_keras.conversion.sparsify import sparsify
from scl_keras.masks.mask import find_masks
from scl_keras.switcher.optimizer import (
    DEFAULT_SWITCHER_STEPS,
    DEFAULT_TASK_STEPS,
    SwitcherOptimizer,
)
from scl_keras.training.model import FunctionalSCLModel, SCLModel, scaled_like, unscaled
from scl_keras.training.optimizer import DEFAULT_CONNECTION_COST


@keras.saving.register_keras_serializable("scl_keras")
class SwitcherModel(SCLModel):
    """A Keras model with a second network that reads its weights and cuts connections.

    `SwitcherModel(model)` wraps a stock functional or Sequential model: same weights,
    outputs and names, with masks over its fully connected layers. `fit` then trains the
    model and the switcher network alternately towards `L_task + λ · Σ c · H(s)` (Han et
    al., *Explore the Knowledge contained in Network Weights to Obtain Sparse Neural
    Networks*, arXiv 2103.15590): see `SwitcherOptimizer` for the rule, and
    `switcher_network` for the network.

    The switches are kept in the masks, as those of any `SCLModel`: logs, callbacks,
    `summary`, `effective_masks`, `strip_masks`, `compact` and `export_tflite` work on
    it, and prediction doesn't need the switcher. Instead of a model it also takes
    `inputs, outputs` of a graph with masked layers, or is subclassed, as `SCLModel`.

    Args:
        model: A built functional or Sequential Keras model.
        layers: Keyword: which of its layers to switch, as for `sparsify`; by default
            all `Dense`.
        ste: Keyword: straight-through estimator of the switches, as for `sparsify`.

    Raises:
        ValueError: If the model is unbuilt or subclassed, has none of the layers, or
            has masks already.

    Example:

    ```python
    dense = keras.Sequential([keras.Input((64,)), keras.layers.Dense(10)])
    model = SwitcherModel(dense)
    model.compile("adam", "mse", connection_cost=0.1)
    ```
    """

    def __new__(cls, *args, **kwargs):
        """Makes a functional model of a model, or of inputs and outputs."""
        if cls is SwitcherModel and (args or {"inputs", "model"} & set(kwargs)):
            cls = FunctionalSwitcherModel
        return super().__new__(cls)

    def compile(
        self,
        optimizer="rmsprop",
        loss=None,
        *args,
        switcher=None,
        switcher_optimizer=None,
        task_steps=DEFAULT_TASK_STEPS,
        switcher_steps=DEFAULT_SWITCHER_STEPS,
        connection_cost=DEFAULT_CONNECTION_COST,
        cost="connections",
        normalization="network",
        **kwargs,
    ):
        """Configures the model for training.

        Args:
            optimizer: Optimizer of the weights; or a `SwitcherOptimizer`, which then
                brings all the arguments that are named here.
            loss: As for `keras.Model.compile`.
            *args: As for `keras.Model.compile`.
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
            **kwargs: As for `keras.Model.compile`.

        Raises:
            ValueError: If an argument is something else.
        """
        optimizer = keras.optimizers.get(optimizer)
        inner = unscaled(optimizer)
        if not isinstance(inner, SwitcherOptimizer):
            inner = SwitcherOptimizer(
                inner,
                switcher_optimizer,
                connection_cost,
                cost,
                normalization,
                switcher,
                task_steps,
                switcher_steps,
            )
            if isinstance(optimizer, keras.optimizers.LossScaleOptimizer):
                optimizer = scaled_like(optimizer, inner)
            else:
                optimizer = inner
        super().compile(optimizer, loss, *args, **kwargs)

    @property
    def switcher(self):
        """The switcher network."""
        return self.scl_optimizer.switcher

    def guarded_step(self, step, data):
        """One step, of the side whose turn it is; see `SwitcherOptimizer`."""
        if not self.built:  # a subclassed model
            self(keras.utils.unpack_x_y_sample_weight(data)[0])
        if not self.optimizer.built:
            self.optimizer.build(self.trainable_variables)
        self.scl_optimizer.prepare_step()
        return super().guarded_step(step, data)

    def statistics_move(self):
        """Not in the switcher's turn: all but the switcher rests."""
        return ops.logical_not(self.scl_optimizer.is_switchers_turn())


@keras.saving.register_keras_serializable("scl_keras")
class FunctionalSwitcherModel(SwitcherModel, FunctionalSCLModel):
    """What `SwitcherModel(model)` makes."""

    # Keras tells by these arguments that it may save the graph.
    def __init__(self, inputs=None, outputs=None, name=None, **kwargs):
        model = kwargs.pop("model", inputs)
        if isinstance(model, keras.Model):
            if outputs is not None:
                raise ValueError(
                    "`SwitcherModel(model)` takes the layers to switch by keyword: "
                    f"`SwitcherModel(model, layers=...)`. Received: {outputs!r}"
                )
            choice = {k: kwargs.pop(k) for k in ("layers", "ste") if k in kwargs}
            masked = _masked(model, **choice)
            inputs, outputs, name = masked.input, masked.output, name or masked.name
        super().__init__(inputs, outputs, name=name, **kwargs)
        if not any(mask.is_learned for mask in find_masks(self)):
            raise ValueError(
                "A switcher has nothing to switch in a graph without learned masks. "
                f"Received: inputs={inputs}, outputs={outputs}"
            )


def _masked(model, layers=keras.layers.Dense, ste="identity"):
    if find_masks(model):
        raise ValueError(
            "`SwitcherModel` puts masks of its own over a stock model, and this one "
            f"has masks: `strip_masks` removes them. Received: model '{model.name}'"
        )
    masked = sparsify(model, layers, ste=ste)
    if not find_masks(masked):
        raise ValueError(
            f"None of the layers to switch is in model '{model.name}'. By default they "
            "are the `Dense` ones; `layers=` takes others. "
            f"Its layers are: {', '.join(layer.name for layer in model.layers)}"
        )
    return masked
