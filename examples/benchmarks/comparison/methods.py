"""The methods of the comparison by name."""

import dataclasses
from collections.abc import Callable

import keras

from comparison import recipes, scl


@dataclasses.dataclass(frozen=True)
class Method:
    """A method of the comparison.

    Attributes:
        title: Its name in tables and pictures.
        prepare: The recipe, see `recipes.py`.
        dense_share: From initial weights: share of the epochs that train the dense
            network before. From trained weights there is no need to.
        parameters: Its own settings, by name; the recipe is called with them.
        step: Whose training step costs what its own does, where that is another's.
        usual: Whether it is compared if nobody asks for it by name.
        protocol: The only protocol that it is for, or None for both.
        backend: The only backend of Keras that it runs on, or None for all.
        not_on: Networks that it can't prune, or where it is the same as another one.
        edition: Raised when it does something else by the same settings, so that old
            results aren't taken for new ones.
    """

    title: str
    prepare: Callable
    dense_share: float = 0.0
    parameters: dict = dataclasses.field(default_factory=dict)
    step: str | None = None
    usual: bool = True
    protocol: str | None = None
    backend: str | None = None
    not_on: tuple[str, ...] = ()
    edition: int = 1


METHODS = {
    "trained": Method(
        "dense, as it was trained", recipes.dense, step="dense", protocol="finetuned"
    ),
    "dense": Method("dense", recipes.dense),
    "scl": Method("SCL", scl.scl, edition=2),  # the rate falls later beyond 10x
    "scl_plain": Method(
        "SCL by the paper's plain rule",
        scl.plain_scl,
        parameters={"mask_initializer": 0.03, "mask_learning_rate": 3e-3},
        step="scl",
    ),
    "scl_distilled": Method(
        "SCL, distilled from the dense network",
        scl.distilled_scl,
        protocol="finetuned",
        edition=3,  # another loss to distill by; as scl
    ),
    "scl_feature": Method(
        "SCL, normalized by feature", scl.scl_by_feature, usual=False
    ),
    "scl_flops": Method(
        "SCL of multiply-accumulates",
        scl.scl_of_flops,
        step="scl",
        usual=False,
        not_on=("lenet_300_100",),  # where a connection is one multiply-accumulate
    ),
    "scl_raw": Method(
        "SCL without normalization",
        scl.scl_without_normalization,
        parameters={"mask_learning_rate": 1.0},
        usual=False,
    ),
    "switcher": Method("switcher", recipes.switcher),
    "gradual": Method(
        "gradual magnitude", recipes.gradual, parameters={"frequency": 100}
    ),
    "tfmot": Method(
        "TFMOT `prune_low_magnitude`",
        recipes.tfmot_gradual,
        dense_share=0.5,
        parameters={"initial_sparsity": 0.5, "frequency": 100},
        backend="tensorflow",
    ),
    "magnitude": Method(
        "magnitude, one-shot", recipes.one_shot("magnitude"), dense_share=0.5
    ),
    "lamp": Method(
        "LAMP, one-shot", recipes.one_shot("lamp"), dense_share=0.5, step="magnitude"
    ),
    "snip": Method("SNIP", recipes.one_shot("snip"), step="magnitude"),
    "synflow": Method(
        "SynFlow",
        recipes.one_shot("synflow"),
        step="magnitude",
        not_on=("vision_transformer",),  # no flow is known of attention
    ),
    "random": Method(
        "random, IGQ", recipes.one_shot("random", "igq"), step="magnitude"
    ),
}
"""The methods by name."""

DENSE = ("trained", "dense")
"""Those that cut nothing."""

VARIANTS = tuple(name for name in METHODS if name.startswith("scl_"))
"""Other ways of SCL than its defaults."""


def methods_for(task):
    """Names of the methods that say something about a task, each another thing."""
    return [
        name
        for name, method in METHODS.items()
        if task.network not in method.not_on
        and method.protocol in (None, task.protocol)
    ]


def usual_for(task):
    """Names of those that are compared if nobody asks for others."""
    return [name for name in methods_for(task) if _is_usual(METHODS[name])]


def with_own_step():
    """Names of the usual methods whose training step is their own, not another's."""
    return [name for name, m in METHODS.items() if _is_usual(m) and m.step is None]


def _is_usual(method):
    """Whether it is compared on this backend if nobody asks for it."""
    return method.usual and method.backend in (None, keras.backend.backend())
