r"""Repeats a training binary over seeds and settings, and compares the results.

    python examples/sweep.py --seeds=0,1,2 --vary=normalization=network,feature,none \
        -- --dataset=mnist --compression=150
    python examples/sweep.py --binary=train_switcher --vary=method=switcher,scl \
        -- --dataset=mnist

Every combination of the values after --vary (which may be given several times) is run
once a seed, in a process of its own; what comes after `--` goes to each run as it is.
A sweep that was interrupted goes on where it stopped, and several processes may share
one: start the same command again, or on another machine with the same folder --out.
Prints a Markdown table. Written to --out are

    <run>.json   the results of a run; what has one isn't repeated
    <run>/       all that the binary writes, and what it printed, as log.txt
    sweep.md     the table
    sweep.png    densities and accuracies over the epochs, with the range of the seeds
"""

import itertools
import json
import pathlib
import statistics
import subprocess
import sys

import numpy as np
from absl import app, flags
from grid import Grid, Run
from matplotlib.figure import Figure
from records import write_text

from scl_keras.report.style import STRONG, end_labels, in_words, percent, styled

FLAGS = flags.FLAGS
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds, one run each.")
flags.DEFINE_enum("binary", "train_scl", ["train_scl", "train_switcher"], "What runs.")
flags.DEFINE_multi_string(
    "vary", [], "FLAG=VALUE,VALUE,...: a flag of the binary and its values."
)
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/sweep", "Folder to write to, one folder a run in it.")


def main(argv):
    """Runs what is missing, then compares all."""
    fixed, folder = argv[1:], pathlib.Path(FLAGS.out)
    seeds = FLAGS.seeds
    if FLAGS.smoke:  # two runs, each of them a smoke run
        fixed, seeds = [*fixed, "--smoke", "--noexport"], seeds[:2]
    names, choices = _parse(FLAGS.vary)
    runs = {
        values: [_run(names, values, fixed, seed) for seed in seeds]
        for values in itertools.product(*choices)
    }
    grid = Grid(folder)
    grid.complete([r for some in runs.values() for r in some], lambda r: _make(r, grid))
    results = {values: [grid.find(run) for run in runs[values]] for values in runs}
    table = "\n".join(_table(names, results))
    write_text(folder / "sweep.md", table + "\n")
    _draw(names, results).savefig(folder / "sweep.png", dpi=100)
    print(table)


def _parse(vary):
    pairs = [text.partition("=") for text in vary]
    for text, (name, _, values) in zip(vary, pairs, strict=True):
        if not name or not values:
            raise app.UsageError(
                f"--vary wants FLAG=VALUE,VALUE,... Received: --vary={text!r}"
            )
    return [p[0] for p in pairs], [p[2].split(",") for p in pairs]


def _run(names, values, fixed, seed):
    """One run, called after what varies."""
    varied = [f"{n}={v}" for n, v in zip(names, values, strict=True)]
    arguments = [*(f"--{v}" for v in varied), *fixed, f"--seed={seed}"]
    setting = {"binary": FLAGS.binary, "arguments": arguments}
    return Run("_".join([*varied, f"seed={seed}"]), setting)


def _make(run, grid):
    """The results of one run, from a process of its own."""
    out = grid.folder / run.name
    out.mkdir(parents=True, exist_ok=True)
    setting = run.setting()
    binary = pathlib.Path(__file__).with_name(f"{setting['binary']}.py")
    command = [sys.executable, str(binary), *setting["arguments"], f"--out={out}"]
    with (out / "log.txt").open("w") as log:
        code = subprocess.run(command, stdout=log, stderr=log).returncode
    if code:
        lines = (out / "log.txt").read_text().splitlines()
        tail = "\n".join(lines[-5:])
        sys.exit(f"{' '.join(command)}\nfailed with exit code {code}:\n{tail}")
    return json.loads((out / "results.json").read_text())


def _table(names, results):
    heads = [*names, "seeds", "dense", "sparse", "worst", "compression"]
    yield "| " + " | ".join(heads) + " |"
    yield "|" + "---|" * (len(names) + 5)
    for setting, runs in results.items():
        dense = [run["dense_accuracy"] for run in runs]
        sparse = [run["accuracy"] for run in runs]
        compression = statistics.mean(run["summary"]["compression"] for run in runs)
        row = [*setting, len(runs), _spread(dense), _spread(sparse)]
        row += [f"{min(sparse):.2%}", f"{compression:.1f}x"]
        yield "| " + " | ".join(map(str, row)) + " |"


@styled
def _draw(names, results):
    """Compression and accuracy over the epochs: means, and the range of the seeds."""
    figure = Figure(figsize=(11, 4))
    panels = figure.subplots(1, 2)
    panels[0].set(yscale="log", title="Times fewer connections")
    panels[1].set(title="Test accuracy")
    shown = {"density": lambda x: 1 / x, "val_accuracy": lambda x: x}
    for axes, (key, convert) in zip(panels, shown.items(), strict=True):
        ends = []
        for setting, runs in results.items():
            values = np.array([convert(np.array(run["history"][key])) for run in runs])
            epochs = np.arange(1, values.shape[1] + 1)
            pairs = zip(names, setting, strict=True)
            title = ", ".join(f"{n}={v}" for n, v in pairs)
            color = {} if len(results) > 1 else {"color": STRONG}
            (line,) = axes.plot(epochs, values.mean(0), **color)
            low, high = values.min(0), values.max(0)
            axes.fill_between(epochs, low, high, alpha=0.2, color=line.get_color())
            ends.append((epochs[-1], values.mean(0)[-1], title, line.get_color()))
        axes.set(xlabel="epoch")
        if key == "val_accuracy":
            # The first epochs would hide the differences that matter.
            worst = min(y for _, y, _, _ in ends)
            axes.set_ylim(max(0, 1 - 3 * (1 - worst)), None)
        end_labels(axes, ends)
    in_words(panels[0].yaxis, "{:g}x".format)
    in_words(panels[1].yaxis, percent)
    return figure


def _spread(values):
    """Mean and standard deviation, in percent."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2%} ± {100 * deviation:.2f}"


if __name__ == "__main__":
    app.run(main)
