"""Which mask switches which channels, when each layer has one mask alone."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any


def placed(
    order: Sequence[Any], readers: Mapping[Any, Any], makers: Collection[Any]
) -> dict[Any, Any]:
    """Chooses masks for as many layers' channels as can have one.

    The mask of a layer switches either what it reads, of all layers that it reads, or
    what it makes. What is read is preferred where both serve as many. Each layer is
    read by one other at most: these are trees, in which the best choice for a layer
    depends on nothing but that of its reader.

    Args:
        order: The layers, each before the one that reads it.
        readers: Dict by layers: the one whose mask may switch what a layer makes.
        makers: The layers whose own mask may do so.

    Returns:
        A dict by layers: the one whose mask switches what a layer makes. Those that
        can't have one are left out.

    Example:

    ```python
    placed("abc", {"a": "b", "b": "c"}, {"a", "b", "c"})
    # {'c': 'c', 'b': 'b', 'a': 'a'}
    ```
    """
    behind: dict[Any, list] = {key: [] for key in order}
    for key, reader in readers.items():
        behind[reader].append(key)
    best: dict[tuple[Any, bool], tuple[int, bool]] = {}
    for key in order:
        for given in (False, True):  # whether its reader's mask switches what it reads
            counts = {}
            for reads in (True, False):
                own = given or (key in makers and not reads)
                counts[reads] = own + sum(best[x, reads][0] for x in behind[key])
            reads = counts[True] >= counts[False]
            best[key, given] = counts[reads], reads
    found: dict[Any, Any] = {}
    reading: dict[Any, bool] = {}
    for key in reversed(order):
        given = reading.get(readers.get(key), False)
        reading[key] = best[key, given][1]
        if given:
            found[key] = readers[key]
        elif key in makers and not reading[key]:
            found[key] = key
    return found
