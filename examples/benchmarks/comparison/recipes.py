"""How each method makes a network sparse, one function each; SCL's own: `scl.py`.

A recipe gets a dense Keras model, initial or trained, the `Run`, the data and the
number of epochs left. It returns a `Prepared`: the model to train for these epochs, and
how. Two thirds of them change masks where a method learns or prunes in training; the
last third has them fixed, for all alike.
"""

import dataclasses
from collections.abc import Callable

import keras

import scl_keras
from scl_keras.pruning import GradualPruning, PolynomialDecay, Random, SynFlow

SNIP_SAMPLES = 256
LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


@dataclasses.dataclass
class Prepared:
    """A model that is ready to be compiled and trained.

    Attributes:
        model: The model.
        arguments: What `compile` takes besides optimizer, loss and metrics.
        callbacks: Callbacks of `fit`.
        framework: The module that the model is of: `keras` or `tf_keras`.
        finish: Function from the trained model to a Keras model.
    """

    model: object
    arguments: dict = dataclasses.field(default_factory=dict)
    callbacks: list = dataclasses.field(default_factory=list)
    framework: object = keras
    finish: Callable = lambda model: model


def dense(model, run, data, epochs):
    """The network as it is."""
    return Prepared(model)


def switcher(model, run, data, epochs):
    """A second network switches connections of all kernels, not of dense layers only.

    Compression counts all kernels for everybody, and convolutions have most of the
    multiply-accumulates. The paper's switcher is for fully connected layers.
    """
    target = scl_keras.TargetSparsity(compression=run.compression)
    model = scl_keras.SwitcherModel(model, layers=lambda layer: True)
    return Prepared(model, callbacks=[target])


def gradual(model, run, data, epochs, frequency):
    """Magnitude pruning while training, over all kernels together (Zhu & Gupta)."""
    end, every = updates(run, data, epochs, frequency)
    schedule = PolynomialDecay(
        0.0, 1 - 1 / run.compression, begin_step=0, end_step=end, frequency=every
    )
    sparse = scl_keras.sparsify(model, ste=None)
    return Prepared(sparse, callbacks=[GradualPruning(schedule)])


def tfmot_gradual(model, run, data, epochs, initial_sparsity, frequency):
    """TFMOT's documented recipe: a trained model, from half the weights down.

    Each layer is pruned to the same sparsity. TFMOT's guide prunes until the last step;
    here the last third is left to fine-tune, as with the others.
    """
    # Imported here: only this method needs them, and they take seconds.
    import tf_keras
    from tensorflow_model_optimization.sparsity import keras as tfmot
    from tfmot_baseline import legacy_twin, prune_low_magnitude

    end, every = updates(run, data, epochs, frequency)
    pruned = prune_low_magnitude(
        legacy_twin(model),
        end,
        1 - 1 / run.compression,
        initial_sparsity=initial_sparsity,
        frequency=every,
    )
    return Prepared(
        pruned,
        callbacks=[tfmot.UpdatePruningStep()],
        framework=tf_keras,
        finish=lambda model: scl_keras.from_tf_keras(tfmot.strip_pruning(model)),
    )


def one_shot(method, quotas=None):
    """A recipe that calls `prune` once, to an effective compression."""

    def prepare(model, run, data, epochs):
        """Prunes, and trains what is left."""
        chosen = {"random": Random(run.seed), "synflow": SynFlow()}.get(method, method)
        pruned = scl_keras.prune(
            model,
            chosen,
            compression=run.compression,
            effective=True,
            quotas=quotas,
            data=(data.x_train[:SNIP_SAMPLES], data.y_train[:SNIP_SAMPLES]),
            loss=LOSS,
            verbose=0,
        )
        return Prepared(pruned)

    return prepare


def updates(run, data, epochs, frequency):
    """Last step that prunes, about two thirds of all, and steps between updates.

    These are `frequency`, fewer where there would be less than ten updates. The last
    step is a multiple of it: else the last sparsity would not be reached.
    """
    steps = max(1, round(epochs * 2 / 3)) * run.task.steps(data)
    every = max(1, min(frequency, steps // 10))
    return steps // every * every, every
