"""States of random layers, such as dropout, which Keras leaves out of its files."""

from collections.abc import MutableMapping
from typing import Any

_PREFIX = "random_state_"


def save_states(model, store: MutableMapping[str, Any]) -> None:
    """Adds the states of a model's random layers to what is saved of its own."""
    for i, state in enumerate(_states(model)):
        store[f"{_PREFIX}{i}"] = state.numpy()


def load_states(model, store: MutableMapping[str, Any]) -> dict[str, Any]:
    """Loads what `save_states` saved, and returns a dict of the rest."""
    keys = list(store.keys())  # Keras's stores can't be iterated over
    rest = {key: store[key] for key in keys if not key.startswith(_PREFIX)}
    states = _states(model)
    if len(keys) - len(rest) == len(states):  # not so in files of older models
        for i, state in enumerate(states):
            state.assign(store[f"{_PREFIX}{i}"])
    return rest


def _states(model):
    known = {id(v) for v in model.weights + model.metrics_variables}
    return [v for v in model.variables if id(v) not in known]
