"""States of a model in which a metric held: to go back to."""

import dataclasses
import math
from collections.abc import Mapping, Sequence

import keras
import numpy as np

_APART = math.log(1.1)


@dataclasses.dataclass
class HeldState:
    """The weights and masks of a model after an epoch.

    Attributes:
        weights: The arrays of `get_weights`.
        log_compression: Logarithm of its compression.
        drop: What the metric had lost.
    """

    weights: list[np.ndarray]
    log_compression: float
    drop: float

    @classmethod
    def of(cls, model: keras.Model, log_compression: float, drop: float) -> "HeldState":
        """The state of a model as it is now."""
        return cls(model.get_weights(), log_compression, drop)

    def restore(self, model: keras.Model) -> None:
        """Gives a model these weights and masks."""
        model.set_weights(self.weights)


class HeldStates:
    """The sparsest states that held, less than 10 % apart the one that lost least.

    Among them is always the sparsest of those that have lost no more than the bound:
    what holds while more may be lost doesn't take its place.

    Args:
        bound: What a state may have lost in the end.
        at_most: How many to keep. Each is a copy of all weights in the memory of the
            host.
    """

    def __init__(self, bound: float, at_most: int = 4) -> None:
        self._bound, self._at_most = bound, at_most
        self.states: list[HeldState] = []

    def keep(self, state: HeldState) -> None:
        """Keeps a state, or the one beside it that lost less."""
        near = [
            other
            for other in self.states
            if abs(other.log_compression - state.log_compression) < _APART
        ]
        if any(other.drop < state.drop for other in near):
            return
        kept = [other for other in self.states if all(other is not s for s in near)]
        kept.append(state)
        kept.sort(key=lambda s: s.log_compression)
        certain = [other for other in kept if other.drop <= self._bound][-1:]
        self.states = kept[-self._at_most :]
        if certain and all(certain[0] is not other for other in self.states):
            self.states[0] = certain[0]

    def sparsest(
        self, may_lose: float = math.inf, below: float = math.inf
    ) -> HeldState | None:
        """The sparsest state, or None.

        Args:
            may_lose: What it may have lost.
            below: The logarithm of a compression that it must be below.
        """
        found = [
            state
            for state in self.states
            if state.drop <= may_lose and state.log_compression < below
        ]
        return found[-1] if found else None


def to_arrays(states: Sequence[HeldState]) -> dict[str, np.ndarray]:
    """States as arrays by name, for `from_arrays`."""
    places = [[state.log_compression, state.drop] for state in states]
    weights = {
        f"state {i} weight {j}": array
        for i, state in enumerate(states)
        for j, array in enumerate(state.weights)
    }
    return {"states": np.array(places), **weights}


def from_arrays(arrays: Mapping[str, np.ndarray]) -> list[HeldState]:
    """The states that `to_arrays` gave, among other arrays."""
    places = arrays["states"].tolist()
    count = sum(name.startswith("state 0 weight ") for name in arrays)
    return [
        HeldState([arrays[f"state {i} weight {j}"] for j in range(count)], *place)
        for i, place in enumerate(places)
    ]
