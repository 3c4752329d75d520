"""Results over seeds as Markdown, also between markers of another file."""

import collections
import math
import pathlib
import statistics

from records import write_text

from comparison.methods import METHODS, methods_for
from comparison.tasks import COMPRESSIONS, SEEDS, TASKS, TITLES, Task

BEGIN, END = "<!-- comparison:begin -->", "<!-- comparison:end -->"

NOTE = (
    "Test accuracy in percent after the last epoch, mean ± standard deviation over "
    "seeds, by the compression that was asked for; in brackets the effective "
    "compression where another one came out. Cut off: no path from input to output "
    "is left. Bold: the best mean of a column, of those as sparse as was asked for."
)
TOLERANCE = 0.05  # of a compression: less isn't worth a remark
COSTS_NOTE = (
    "Step: median time of a step with masks, as a ratio to the dense network's; "
    "memory: peak of training beyond that of the process before. TFMOT trains on "
    "`tf_keras`, whose dense step takes {} of that of Keras 3 here, table by table."
)


def groups(results):
    """Results of the methods as they are now, by what they share.

    Args:
        results: Dicts as `Store` keeps them, in any order.

    Returns:
        Dict from a `Task` to a list of its results. Those of a method with other
        parameters than it has now are left out.
    """
    found = collections.defaultdict(list)
    for result in results:
        setting = result["setting"]
        method = METHODS.get(setting["method"])
        if method is not None and setting["parameters"] == method.parameters:
            found[Task(**setting["task"])].append(result)
    order = list(TASKS)
    return {
        task: found[task]
        for task in sorted(found, key=lambda t: (order.index(t.network), t.epochs))
    }


def report(results, costs=()):
    """All tables, one for each task.

    Args:
        results: Dicts as `Store` keeps them.
        costs: Dicts as `comparison.costs` keeps them.

    Returns:
        A string of Markdown.
    """
    if not results:
        raise ValueError("No results yet: nothing to make a table of.")
    costs = {cost["task"]["network"]: cost for cost in costs}
    tasks = groups(results)
    parts = [NOTE] + [
        f"{describe(task, some)}\n\n{_table(task, some, costs.get(task.network))}"
        for task, some in tasks.items()
    ]
    legacy = [_ratio("tf_keras", costs[t.network]) for t in tasks if t.network in costs]
    if legacy:
        parts.append(COSTS_NOTE.format(", ".join(legacy)))
    return "\n\n".join(parts) + "\n"


def describe(task, results):
    """One paragraph: what was trained, how, and by which command."""
    seeds = {r["setting"]["seed"] for r in results}
    samples = "" if task.samples is None else f"the first {task.samples:,} samples of "
    width = "" if task.width is None else f", width {task.width:g}"
    return (
        f"**{TITLES[task.network]} on {samples}{TITLES[task.dataset]}**{width}: "
        f"{task.epochs} epochs for everybody, batch {task.batch_size}, Adam from "
        f"{task.learning_rate:g} by a cosine, {len(seeds)} seed"
        f"{'s' if len(seeds) > 1 else ''}. Command: `{command(task, results)}`"
    )


def asked_compressions(results):
    """The compressions that were asked for, in order; of a dense network none is."""
    settings = [r["setting"] for r in results]
    return sorted({s["compression"] for s in settings if s["method"] != "dense"})


def command(task, results):
    """The command that makes the results of a task."""
    usual = TASKS[task.network]
    words = ["python examples/benchmarks/compare_methods.py"]
    words.append(f"--network={task.network}")
    for name in ("dataset", "epochs", "batch_size", "learning_rate", "samples"):
        if getattr(task, name) != getattr(usual, name):
            words.append(f"--{name}={getattr(task, name)}")
    if task.width is not None:
        words.append(f"--width={task.width:g}")
    if task.jit_compile != usual.jit_compile:
        words.append("--jit_compile" if task.jit_compile else "--nojit_compile")
    settings = [r["setting"] for r in results]
    made = {s["method"] for s in settings}
    lists = {
        "methods": ([m for m in METHODS if m in made], methods_for(task.network)),
        "compressions": (asked_compressions(results), list(COMPRESSIONS)),
        "seeds": (sorted({s["seed"] for s in settings}), list(SEEDS)),
    }
    for name, (some, default) in lists.items():
        if some and some != default:
            texts = [x if isinstance(x, str) else f"{x:g}" for x in some]
            words.append(f"--{name}={','.join(texts)}")
    return " ".join(words)


def _table(task, results, costs):
    cells = collections.defaultdict(list)
    for result in results:
        setting = result["setting"]
        cells[setting["method"], setting["compression"]].append(result)
    asked = asked_compressions(results)
    heads = ["method", *(f"{c:g}x" for c in asked)]
    heads += ["step", "memory"] if costs else []
    most = max(map(len, cells.values()))
    best = {c: _best(cells, c) for c in asked}
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, method in METHODS.items():
        if not any(name == known for known, _ in cells):
            continue
        if name == "dense":
            title = f"dense: {_accuracy(cells[name, 1])}"
            row = [title] + ["" for _ in asked]
        else:
            row = [method.title]
            for c in asked:
                text = _cell(cells.get((name, c), []), c, most)
                row.append(f"**{text}**" if name == best[c] else text)
        row += _costs(name, costs) if costs else []
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def _best(cells, compression):
    """The method with the best mean accuracy, cut as far as asked and never off."""
    means = {
        name: statistics.mean(r["accuracy"] for r in some)
        for (name, asked), some in cells.items()
        if asked == compression
        and name != "dense"
        and not _cut_off(some)
        and _effective(some) >= (1 - TOLERANCE) * compression
    }
    return max(means, key=means.get, default=None)


def _cell(results, compression, most):
    """Accuracy over seeds; the effective compression if it isn't the one asked for."""
    if not results:
        return "-"
    connected = [r for r in results if not r["cut_off"]]
    if not connected:
        return "cut off"
    notes = []
    effective = _effective(connected)
    if abs(effective / compression - 1) > TOLERANCE:
        notes.append(f"{effective:,.0f}x")
    if lost := _cut_off(results):
        notes.append(f"{lost} of {len(results)} cut off")
    if len(results) < most:
        notes.append(f"{len(results)} of {most} seeds")
    text = _accuracy(connected)
    return f"{text} ({', '.join(notes)})" if notes else text


def _effective(results):
    """What is connected, of runs that aren't cut off."""
    return geometric_mean([r["effective_compression"] for r in results])


def _accuracy(results):
    """Mean and standard deviation, in percent."""
    values = [r["accuracy"] for r in results]
    spread = f" ± {100 * statistics.stdev(values):.2f}" if len(values) > 1 else ""
    return f"{100 * statistics.mean(values):.2f}{spread}"


def _cut_off(results):
    return sum(r["cut_off"] for r in results)


def _costs(name, costs):
    """Time of a step to that of a dense one, and memory beyond that of dense."""
    name = METHODS[name].step or name
    peaks = costs["bytes"]
    memory = f"{peaks[name] / 2**20:,.0f} MiB" if name in peaks else "-"
    return [_ratio(name, costs), memory]


def _ratio(name, costs):
    seconds = costs["seconds"]
    return f"{seconds[name] / seconds['dense']:.2f}" if name in seconds else "-"


def geometric_mean(values):
    """Of positive numbers."""
    return math.exp(statistics.mean(map(math.log, values)))


def write_between_markers(path, text):
    """Puts a text between the markers of a Markdown file, in place of what is there.

    Args:
        path: The file; it has each marker once, on a line of its own.
        text: The Markdown.

    Raises:
        ValueError: If the markers aren't there like that.
    """
    path = pathlib.Path(path)
    before = path.read_text()
    lines = before.splitlines()
    if [lines.count(BEGIN), lines.count(END)] != [1, 1] or (
        lines.index(END) < lines.index(BEGIN)
    ):
        raise ValueError(
            f"{path} must have the lines {BEGIN} and {END}, once each and in this "
            "order: the table goes between them."
        )
    head, rest = before.split(BEGIN)
    tail = rest.split(END)[1]
    write_text(path, f"{head}{BEGIN}\n\n{text.strip()}\n\n{END}{tail}")
