"""The runs of a study, made one after the other where they are missing."""

import contextlib
import itertools

from tqdm import tqdm

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


def complete(runs, store, load, command, train=train, at_most=None):
    """Makes the runs that the store doesn't have yet, with a progress bar over all.

    Args:
        runs: List of `Run`.
        store: The `Store`.
        load: Function from a `Task` to its data.
        command: What to note as the command of these runs.
        train: Function from a `Run`, its data and the store to a dict of figures.
        at_most: Number of runs to make, or None for all.

    Returns:
        Whether all are there.
    """
    missing = [run for run in runs if store.find(run) is None]
    task = data = None
    with tqdm(total=len(runs), initial=len(runs) - len(missing), unit="run") as bar:
        for run in missing[:at_most]:
            bar.set_postfix_str(run.name)
            if run.task != task:  # one at a time: they are large
                task, data = run.task, load(run.task)
            if store.find(run) is None:  # another process may have made it meanwhile
                with contextlib.redirect_stdout(None):  # callbacks' remarks
                    result = train(run, data, store)
                store.keep(run, result, command)
            bar.update()
    return at_most is None or len(missing) <= at_most
