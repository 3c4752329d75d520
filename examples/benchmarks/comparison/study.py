"""The runs of a study, made one after the other where they are missing."""

import contextlib
import itertools

from comparison.methods import METHODS, methods_for
from comparison.tasks import Run
from comparison.training import train


def plan(tasks, methods, compressions, seeds):
    """All runs: those of a seed, then the next, so that a part of them is a study, too.

    Args:
        tasks: List of `Task`.
        methods: Keys of `METHODS`; left out where they'd be the same as another one.
        compressions: Numbers; the dense network is trained once for all of them.
        seeds: Integers.

    Returns:
        A list of `Run`.

    Raises:
        ValueError: If a method isn't known.
    """
    for method in methods:
        if method not in METHODS:
            raise ValueError(
                f"A method must be one of {', '.join(METHODS)}. Received: {method}"
            )
    parts = itertools.product(seeds, tasks, compressions, methods)
    runs = [
        Run(
            task=task,
            method=method,
            compression=1.0 if method == "dense" else float(compression),
            seed=seed,
            parameters=tuple(METHODS[method].parameters.items()),
        )
        for seed, task, compression, method in parts
        if method in methods_for(task.network)
    ]
    return list(dict.fromkeys(runs))


def complete(runs, store, load, train=train, at_most=None):
    """Makes the runs that the store doesn't have yet, with a progress bar over all.

    Args:
        runs: List of `Run`.
        store: The `Store`.
        load: Function from a `Task` to its data.
        train: Function from a `Run`, its data and the store to a dict of figures.
        at_most: Number of runs to make, or None for all.

    Returns:
        Their results, or None if some are still missing after `at_most`.
    """
    task = data = None

    def make(run):
        nonlocal task, data
        if run.task != task:  # one at a time: they are large
            task, data = run.task, load(run.task)
        with contextlib.redirect_stdout(None):  # callbacks' remarks
            return train(run, data, store)

    return store.complete(runs, make, at_most)
