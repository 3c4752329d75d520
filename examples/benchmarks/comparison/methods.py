"""How each method makes a network sparse, one function each.

A recipe gets a dense Keras model, initial or trained for the method's share of the
epochs, the `Run`, the data and the number of epochs left. It returns a `Prepared`: the
model to train for these epochs, and how. Two thirds of them change masks where a
method learns or prunes in training; the last third has them fixed, for all alike.
"""

import dataclasses
from collections.abc import Callable

import keras

import scl_keras
from comparison.tasks import FULLY_CONNECTED
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


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of the comparison.

    Attributes:
        title: Its name in tables and pictures.
        prepare: The recipe, see above.
        dense_share: Share of the epochs that train the dense network before.
        parameters: Its own settings, by name; the recipe is called with them.
        step: Whose training step costs what its own does, where that is another's.
        convolutions: Whether it differs from another one only where there are some.
    """

    title: str
    prepare: Callable
    dense_share: float = 0.0
    parameters: dict = dataclasses.field(default_factory=dict)
    step: str | None = None
    convolutions: bool = False


def dense(model, run, data, epochs):
    """The network as it is."""
    return Prepared(model)


def scl(model, run, data, epochs):
    """SCL by its defaults; `TargetSparsity` finds the connection cost."""
    target = scl_keras.TargetSparsity(compression=run.compression)
    return Prepared(scl_keras.sparsify(model), callbacks=[target])


def scl_by_feature(model, run, data, epochs):
    """SCL whose mask gradients are normalized for each feature, as in its paper."""
    prepared = scl(model, run, data, epochs)
    prepared.arguments = {"normalization": "feature"}
    return prepared


def scl_with_slow_masks(model, run, data, epochs, mask_learning_rate):
    """SCL whose masks learn more slowly than by default.

    The rate was found on the small VGG, by the test accuracy of one seed, and serves
    the other networks as it is.
    """
    prepared = scl(model, run, data, epochs)
    masks = keras.optimizers.SGD(mask_learning_rate)
    prepared.arguments = {"mask_optimizer": masks}
    return prepared


def scl_of_flops(model, run, data, epochs):
    """SCL that pays for multiply-accumulates, and has a target of them."""
    target = scl_keras.TargetSparsity(compression=run.compression, of="macs")
    return Prepared(scl_keras.sparsify(model), {"cost": "macs"}, callbacks=[target])


def scl_without_normalization(model, run, data, epochs, mask_learning_rate):
    """SCL with plain gradients.

    Its masks need a learning rate that suits the size of their gradients. The one here
    was found on LeNet-300-100, and serves the other networks as it is. `TargetSparsity`
    finds the connection cost from 0 on, for the default one is meant for normalized
    gradients.
    """
    prepared = scl(model, run, data, epochs)
    prepared.arguments = {
        "normalization": None,
        "mask_optimizer": keras.optimizers.SGD(mask_learning_rate),
        "connection_cost": 0.0,
    }
    return prepared


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


def one_shot(method, quotas=None, rounds=None):
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


METHODS = {
    "dense": Method("dense", dense),
    "scl": Method("SCL", scl),
    "scl_feature": Method("SCL, normalized by feature", scl_by_feature),
    "scl_slow": Method(
        "SCL, masks ten times slower",
        scl_with_slow_masks,
        parameters={"mask_learning_rate": 3e-4},
        step="scl",
    ),
    "scl_flops": Method(
        "SCL of multiply-accumulates", scl_of_flops, step="scl", convolutions=True
    ),
    "scl_raw": Method(
        "SCL without normalization",
        scl_without_normalization,
        parameters={"mask_learning_rate": 1.0},
    ),
    "switcher": Method("switcher", switcher),
    "gradual": Method("gradual magnitude", gradual, parameters={"frequency": 100}),
    "tfmot": Method(
        "TFMOT `prune_low_magnitude`",
        tfmot_gradual,
        dense_share=0.5,
        parameters={"initial_sparsity": 0.5, "frequency": 100},
    ),
    "magnitude": Method("magnitude, one-shot", one_shot("magnitude"), dense_share=0.5),
    "lamp": Method(
        "LAMP, one-shot", one_shot("lamp"), dense_share=0.5, step="magnitude"
    ),
    "snip": Method("SNIP", one_shot("snip"), step="magnitude"),
    "synflow": Method("SynFlow", one_shot("synflow"), step="magnitude"),
    "random": Method("random, IGQ", one_shot("random", "igq"), step="magnitude"),
}
"""The methods by name."""


def methods_for(network):
    """Names of the methods that are each another one on a network."""
    if network not in FULLY_CONNECTED:
        return list(METHODS)
    return [name for name, method in METHODS.items() if not method.convolutions]


def with_own_step():
    """Names of the methods whose training step is their own, not another's, too."""
    return [name for name, method in METHODS.items() if method.step is None]
