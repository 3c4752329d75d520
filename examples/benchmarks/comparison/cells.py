"""Results put in order: of methods as they are now, by task, method and compression."""

import collections
import math
import statistics

from comparison.methods import DENSE, METHODS
from comparison.plan import TASKS
from comparison.tasks import PROTOCOLS, run_of

TOLERANCE = 0.05  # of a compression: less isn't worth a remark


def groups(results, validation=False):
    """Results of the methods as they are now, by what they share.

    Args:
        results: Dicts as `Store` keeps them, in any order.
        validation: Whether to take those that were measured on a validation split,
            instead of those of test data.

    Returns:
        Dict from a `Task` to a list of its results, their accuracy under `accuracy`
        wherever it was measured. Those of tasks as they no longer are, and of a method
        with other parameters or of another edition than it has now, are left out.
    """
    found = collections.defaultdict(list)
    for result in results:
        run = run_of(result["setting"])
        if run is None or bool(run.task.validation) != validation:
            continue
        method = METHODS.get(run.method)
        current = method and (dict(run.parameters), run.edition)
        if method and current == (method.parameters, method.edition):
            accuracy = result[run.task.metric]
            found[run.task].append({**result, "accuracy": accuracy})
    protocols, networks = list(PROTOCOLS), list(TASKS["initial"])
    return {
        task: found[task]
        for task in sorted(
            found,
            key=lambda t: (
                protocols.index(t.protocol),
                networks.index(t.network),
                t.epochs,
            ),
        )
    }


def cells_of(results):
    """Dict from pairs of method and compression to lists of results."""
    cells = collections.defaultdict(list)
    for result in results:
        setting = result["setting"]
        cells[setting["method"], setting["compression"]].append(result)
    return dict(cells)


def asked_compressions(results):
    """The compressions that were asked for, in order; of a dense network none is."""
    settings = [r["setting"] for r in results]
    return sorted({s["compression"] for s in settings if s["method"] not in DENSE})


def as_asked(results, compression):
    """Whether all are connected, and as sparse as asked for or sparser."""
    return (
        bool(results)
        and not cut_off(results)
        and effective(results) >= (1 - TOLERANCE) * compression
    )


def cut_off(results):
    """Number of those without a path from the inputs to the outputs."""
    return sum(r["cut_off"] for r in results)


def effective(results):
    """Effective compression of runs that aren't cut off."""
    return geometric_mean([r["effective_compression"] for r in results])


def mean(results):
    """Mean accuracy."""
    return statistics.mean(r["accuracy"] for r in results)


def deviation(results):
    """Standard deviation of the accuracy; 0 of a single run."""
    values = [r["accuracy"] for r in results]
    return statistics.stdev(values) if len(values) > 1 else 0.0


def geometric_mean(values):
    """Of positive numbers."""
    return math.exp(statistics.mean(map(math.log, values)))
