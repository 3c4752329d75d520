"""The runs of a study, made one after the other where they are missing."""

import contextlib
import itertools

from comparison.methods import DENSE, METHODS, methods_for, usual_for
from comparison.tasks import Run
from comparison.training import train


def plan(tasks, methods, compressions, seeds):
    """All runs: those of a seed, then the next, so that a part of them is a study, too.

    Args:
        tasks: List of `Task`.
        methods: Keys of `METHODS`, left out where they say nothing; None for those
            that are usual for a task.
        compressions: Numbers; the dense network is trained once for all of them.
        seeds: Integers.

    Returns:
        A list of `Run`.

    Raises:
        ValueError: If a method isn't known.
    """
    for method in methods or ():
        if method not in METHODS:
            raise ValueError(
                f"A method must be one of {', '.join(METHODS)}. Received: {method}"
            )
    runs = [
        planned(task, method, compression, seed)
        for seed, task, compression in itertools.product(seeds, tasks, compressions)
        for method in (usual_for(task) if methods is None else methods)
        if method in methods_for(task)
    ]
    return list(dict.fromkeys(runs))


def planned(task, method, compression, seed):
    """A `Run` of a method as it is now."""
    return Run(
        task=task,
        method=method,
        compression=1.0 if method in DENSE else float(compression),
        seed=seed,
        parameters=tuple(METHODS[method].parameters.items()),
        edition=METHODS[method].edition,
    )


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
