"""Results over seeds as Markdown, also between markers of another file."""

import pathlib

from records import write_text

from comparison.cells import (
    TOLERANCE,
    as_asked,
    asked_compressions,
    cells_of,
    cut_off,
    deviation,
    effective,
    groups,
    mean,
)
from comparison.claims import claims_of, section
from comparison.commands import command
from comparison.methods import DENSE, METHODS
from comparison.tasks import PROTOCOLS, TITLES, title_of

BEGIN, END = "<!-- comparison:begin -->", "<!-- comparison:end -->"

NOTE = (
    "{} accuracy in percent after the last epoch, mean ± standard deviation over "
    "seeds. Columns are the compression that was asked for; brackets have the "
    "effective compression where it came out differently. Cut off: no path from input "
    "to output is left. Bold: the best mean of a column, among methods that are as "
    "sparse as was asked for."
)
COSTS_NOTE = (
    "Step: median time of a training step with masks, as a ratio to the dense "
    "network's. Memory: peak of training, beyond what the process had before. TFMOT "
    "trains on `tf_keras`. Its dense step takes {} times as long as that of Keras 3, "
    "in the order of the networks."
)


def report(results, costs=(), validation=False, remarks=None):
    """All tables, one for each task, and where SCL isn't the best choice.

    Args:
        results: Dicts as `Store` keeps them.
        costs: Dicts as `comparison.costs` keeps them.
        validation: Whether to show what was measured on a validation split.
        remarks: What to say under tables, as `Store.remarks` has it.

    Returns:
        A string of Markdown.

    Raises:
        ValueError: If there is no result to show.
    """
    tasks = groups(results, validation)
    if not tasks:
        raise ValueError("No results of today's tasks yet: nothing to make a table of.")
    costs = {task: cost for task in tasks for cost in costs if _same_step(task, cost)}
    parts = [NOTE.format("Validation" if validation else "Test")]
    for task, some in tasks.items():
        parts += [describe(task, some), _table(some, costs.get(task))]
        if remark := (remarks or {}).get(f"{task.network}_{task.protocol}"):
            parts.append(remark)
    if claims := claims_of(tasks):
        parts.append(section(claims))
    if costs:
        legacy = dict.fromkeys(_ratio("tf_keras", cost) for cost in costs.values())
        parts.append(COSTS_NOTE.format(", ".join(legacy)))
    return "\n\n".join(parts) + "\n"


def _same_step(task, cost):
    """Whether steps of a task are those that were measured."""
    names = ("network", "dataset", "batch_size", "width", "depth")
    names += ("patch", "jit_compile")
    return all(cost["task"].get(name) == getattr(task, name) for name in names)


def describe(task, results):
    """One paragraph: what was trained, how, and by which command."""
    seeds = {r["setting"]["seed"] for r in results}
    samples = "" if task.samples is None else f"the first {task.samples:,} samples of "
    width = "" if task.width is None else f", width {task.width:g}"
    dense = f"{task.dense_epochs} dense epochs, then " if task.dense_epochs else ""
    held_out = (
        f", measured on the last {task.validation:,} training samples"
        if task.validation
        else ""
    )
    return (
        f"**{title_of(task)} on {samples}{TITLES[task.dataset]}, "
        f"{PROTOCOLS[task.protocol]}**{width}: {dense}{task.epochs} epochs for "
        f"every method, batch {task.batch_size}, Adam from {task.learning_rate:g} by a "
        f"cosine, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}{held_out}. "
        f"Command: `{command(task, results)}`"
    )


def _table(results, costs):
    cells = cells_of(results)
    asked = asked_compressions(results)
    heads = ["method", *(f"{c:g}x" for c in asked)]
    heads += ["step", "memory"] if costs else []
    most = max(map(len, cells.values()))
    best = {c: _best(cells, c) for c in asked}
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for name, method in METHODS.items():
        if not any(name == known for known, _ in cells):
            continue
        if name in DENSE:
            title = f"{method.title}: {_accuracy(cells[name, 1])}"
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
        name: mean(some)
        for (name, asked), some in cells.items()
        if asked == compression and name not in DENSE and as_asked(some, compression)
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
    found = effective(connected)
    if abs(found / compression - 1) > TOLERANCE:
        notes.append(f"{found:,.0f}x")
    if lost := cut_off(results):
        notes.append(f"{lost} of {len(results)} cut off")
    if len(results) < most:
        notes.append(f"{len(results)} of {most} seeds")
    text = _accuracy(connected)
    return f"{text} ({', '.join(notes)})" if notes else text


def _accuracy(results):
    """Mean and standard deviation, in percent."""
    spread = f" ± {100 * deviation(results):.2f}" if len(results) > 1 else ""
    return f"{100 * mean(results):.2f}{spread}"


def _costs(name, costs):
    """Time of a step to that of a dense one, and memory beyond that of dense."""
    name = METHODS[name].step or name
    peaks = costs["bytes"]
    memory = f"{peaks[name] / 2**20:,.0f} MiB" if name in peaks else "-"
    return [_ratio(name, costs), memory]


def _ratio(name, costs):
    seconds = costs["seconds"]
    return f"{seconds[name] / seconds['dense']:.2f}" if name in seconds else "-"


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
