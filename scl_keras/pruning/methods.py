"""Pruning methods: each says how much a connection is worth."""

import abc
from collections.abc import Callable

import numpy as np

from scl_keras import checks
from scl_keras.pruning.flow import SynapticFlow
from scl_keras.pruning.network import PrunableNetwork
from scl_keras.pruning.ranking import falling_order


class PruningMethod(abc.ABC):
    """Gives each connection a score: those with the highest are kept.

    A method of one's own overrides `scores`:

    ```python
    class LargeActivity(PruningMethod):
        def scores(self, network):
            gradients = network.gradients()
            return [abs(g) for g in gradients]

    pruned = prune(model, LargeActivity(), 0.9, data=(x, y), loss="mse")
    ```

    Attributes:
        rounds: Number of rounds in which connections are cut. After each, scores are
            computed anew for what is left. Of `N` connections, round `r` of `R` leaves
            `N^(1 - r/R) · n^(r/R)` on the way to `n`.
    """

    rounds = 1

    @abc.abstractmethod
    def scores(self, network: PrunableNetwork) -> list[np.ndarray]:
        """Scores of the connections.

        Args:
            network: A `PrunableNetwork`: its `weights()`, `kept()`, `gradients()` and
                `graph`.

        Returns:
            A list of arrays of the kernels' shapes, in the order of `network.kernels`.
            Scores are compared within the network, or within a kernel where quotas
            are given. Those of connections already cut don't matter.
        """

    def __repr__(self):
        arguments = ", ".join(f"{k}={v!r}" for k, v in vars(self).items())
        return f"{type(self).__name__}({arguments})"


class Magnitude(PruningMethod):
    """Absolute weights: `|w|` (Han et al., arXiv 1506.02626).

    Example:

    ```python
    over_all = prune(model, "magnitude", 0.9, copy=True)
    by_layer = prune(model, "magnitude", 0.9, quotas="erk", copy=True)
    ```
    """

    def scores(self, network: PrunableNetwork) -> list[np.ndarray]:
        """`|w|`."""
        return [np.abs(w) for w in network.weights()]


class LAMP(PruningMethod):
    """Layer-adaptive magnitude: `w² / Σ v²`, over all `v` of the layer not below `w`.

    A layer's largest weight scores 1, so that no layer is cut completely while another
    one has two connections left (Lee et al., *Layer-adaptive sparsity for the
    magnitude-based pruning*, arXiv 2010.07611).

    Example:

    ```python
    pruned = prune(model, "lamp", 0.9)
    ```
    """

    def scores(self, network: PrunableNetwork) -> list[np.ndarray]:
        """`w² / Σ v²`; of equal weights of a layer the later one is below."""
        return [self._scores(w) for w in network.weights()]

    @staticmethod
    def _scores(weights):
        flat = np.abs(weights).ravel()
        order = falling_order(flat)
        # Divided by the largest: squares of small weights would underflow.
        squares = (flat[order] / (flat.max() or 1.0)) ** 2
        scores = np.empty_like(flat)
        scores[order] = squares / np.maximum(np.cumsum(squares), np.finfo(float).tiny)
        return scores.reshape(weights.shape)


class SNIP(PruningMethod):
    """Connection sensitivity: `|w · ∂L/∂w|` (Lee et al., arXiv 1810.02340).

    By how much the loss of the data would change, to first order, if the connection
    were cut. Meant for networks before their training; it needs `data` and a loss.

    Example:

    ```python
    pruned = prune(model, "snip", 0.9, data=(x[:1000], y[:1000]), loss="mse")
    ```
    """

    def scores(self, network: PrunableNetwork) -> list[np.ndarray]:
        """`|w · ∂L/∂w|`."""
        pairs = zip(network.weights(), network.gradients(), strict=True)
        return [np.abs(w * g) for w, g in pairs]


class IterativeSNIP(SNIP):
    """`SNIP` in many rounds, each of which sees the network that the last one left.

    What is cut stays cut (de Jorge et al., *Progressive Skeletonization: Trimming more
    fat from a network at initialization*, arXiv 2006.09081, call it Iterative SNIP; the
    same idea is in Verdenius et al., *Pruning via Iterative Ranking of Sensitivity
    Statistics*, arXiv 2006.00896). Each round goes over all of the data.

    Args:
        rounds: Number of rounds.

    Raises:
        ValueError: If `rounds` isn't a whole number from 1 on.

    Example:

    ```python
    pruned = prune(model, IterativeSNIP(30), 0.99, data=(x[:256], y[:256]), loss="mse")
    ```
    """

    def __init__(self, rounds: int = 100) -> None:
        self.rounds = _checked_rounds(rounds)


class SynFlow(PruningMethod):
    """Synaptic flow: `|w| ∂R/∂|w|`, in many rounds (Tanaka et al., arXiv 2006.05467).

    `R` is the sum over all paths through the network of the products of their absolute
    weights, so that a score is the sum over the paths that go through the connection.
    It needs no data. See `SynapticFlow` for what it does with biases, normalization and
    pooling. The scores are logarithms of numbers that can't leave their range.

    Args:
        rounds: Number of rounds; the paper takes 100.

    Raises:
        ValueError: If `rounds` isn't a whole number from 1 on.

    Example:

    ```python
    pruned = prune(model, "synflow", compression=1000)
    ```
    """

    def __init__(self, rounds: int = 100) -> None:
        self.rounds = _checked_rounds(rounds)

    def scores(self, network: PrunableNetwork) -> list[np.ndarray]:
        """`log(|w| ∂R/∂|w|)`."""
        flow = SynapticFlow(network.graph)
        return flow.log_scores(network.kernels, network.weights())


class Random(PruningMethod):
    """Uniform random scores: together with quotas, random pruning layer by layer.

    Args:
        seed: Integer seed.

    Raises:
        ValueError: If `seed` isn't a whole number from 0 on.

    Example:

    ```python
    pruned = prune(model, Random(seed=1), 0.99, quotas="igq")
    ```
    """

    def __init__(self, seed: int = 0) -> None:
        self.seed = checks.integer("seed", seed, "a whole number >= 0", least=0)

    def scores(self, network: PrunableNetwork) -> list[np.ndarray]:
        """Random numbers from [0, 1)."""
        generator = np.random.default_rng(self.seed)
        return [generator.random(shape) for shape in network.shapes]


def _checked_rounds(rounds):
    return checks.integer("rounds", rounds, "a whole number >= 1", least=1)


_BY_NAME: dict[str, Callable[[], PruningMethod]] = {
    "magnitude": Magnitude,
    "lamp": LAMP,
    "snip": SNIP,
    "iterative_snip": IterativeSNIP,
    "synflow": SynFlow,
    "random": Random,
}


def get_method(identifier: str | PruningMethod) -> PruningMethod:
    """Finds a pruning method.

    Args:
        identifier: `"lamp"`, `"magnitude"`, `"snip"`, `"iterative_snip"`, `"synflow"`,
            `"random"` or a `PruningMethod`.

    Returns:
        A `PruningMethod`.

    Raises:
        ValueError: If it is something else.

    Example:

    ```python
    get_method("snip")  # SNIP()
    ```
    """
    if isinstance(identifier, str) and identifier in _BY_NAME:
        return _BY_NAME[identifier]()
    if isinstance(identifier, PruningMethod):
        return identifier
    raise ValueError(
        f"`method` must be one of {sorted(_BY_NAME)} or a `PruningMethod` object. "
        f"Received: method={identifier!r}"
    )
