"""The command that makes the results of a task."""

import dataclasses

from comparison.cells import asked_compressions
from comparison.methods import METHODS, usual_for
from comparison.plan import COMPRESSIONS, TASKS, study_runs
from comparison.tasks import SEEDS, run_of

BINARY = "python examples/benchmarks/compare_methods.py"


def command(task, results):
    """The command for a task's results.

    Args:
        task: The `Task`.
        results: Its results: dicts as `Store` keeps them.

    Returns:
        A string; `--study` for all that the study has of the task, and no more.
    """
    runs = {run_of(result["setting"]) for result in results}
    validate = bool(task.validation)
    words = [BINARY]
    if runs == {run for run in study_runs(validate) if run.task == task}:
        return " ".join([*words, "--study", *(["--validate"] if validate else [])])
    words += [f"--network={task.network}", f"--protocol={task.protocol}"]
    words += _changes(task, TASKS[task.protocol][task.network])
    made = {run.method for run in runs}
    lists = {
        "methods": ([m for m in METHODS if m in made], usual_for(task)),
        "compressions": (asked_compressions(results), list(COMPRESSIONS)),
        "seeds": (sorted({run.seed for run in runs}), list(SEEDS)),
    }
    for name, (some, default) in lists.items():
        if some and some != default:
            texts = [x if isinstance(x, str) else f"{x:g}" for x in some]
            words.append(f"--{name}={','.join(texts)}")
    return " ".join(words)


def _changes(task, usual):
    """Flags of what a task has other than its network usually has."""
    words = ["--validate"] if task.validation else []
    for field in dataclasses.fields(task):
        name, value = field.name, getattr(task, field.name)
        if name in ("network", "validation") or value == getattr(usual, name):
            continue
        if isinstance(value, bool):
            words.append(f"--{name}" if value else f"--no{name}")
        else:
            text = f"{value:g}" if isinstance(value, float) else value
            words.append(f"--{name}={text}")
    return words
