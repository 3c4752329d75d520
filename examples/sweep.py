r"""Repeats `train_scl.py` over seeds and settings, and compares the results.

    python examples/sweep.py --seeds=0,1,2 --vary=normalization=network,feature,none \
        -- --dataset=mnist --compression=150

Every combination of the values after --vary (which may be given several times) is run
once a seed, in a process of its own; what comes after `--` goes to each run as it is.
A sweep that was interrupted goes on where it stopped: runs with a results.json in their
folder are not repeated. Prints a Markdown table, and writes it to --out as sweep.md.
"""

import itertools
import json
import pathlib
import statistics
import subprocess
import sys

from absl import app, flags
from tqdm import tqdm

FLAGS = flags.FLAGS
flags.DEFINE_list("seeds", ["0", "1", "2"], "Seeds, one run each.")
flags.DEFINE_multi_string(
    "vary", [], "FLAG=VALUE,VALUE,...: a flag of train_scl.py and its values."
)
flags.DEFINE_string("out", "runs/sweep", "Folder to write to, one folder a run in it.")

_TRAIN = pathlib.Path(__file__).with_name("train_scl.py")


def main(argv):
    """Runs what is missing, then compares all."""
    fixed, folder = argv[1:], pathlib.Path(FLAGS.out)
    names, choices = _parse(FLAGS.vary)
    settings = list(itertools.product(*choices))
    runs = list(itertools.product(settings, FLAGS.seeds))
    results = {setting: [] for setting in settings}
    for setting, seed in tqdm(runs, unit="run"):
        arguments = [f"--{n}={v}" for n, v in zip(names, setting, strict=True)]
        arguments += [*fixed, f"--seed={seed}"]
        results[setting].append(_run(folder, arguments))
    table = "\n".join(_table(names, results))
    (folder / "sweep.md").write_text(table + "\n")
    print(table)


def _parse(vary):
    pairs = [text.partition("=") for text in vary]
    for text, (name, _, values) in zip(vary, pairs, strict=True):
        if not name or not values:
            raise app.UsageError(
                f"--vary wants FLAG=VALUE,VALUE,... Received: --vary={text!r}"
            )
    return [p[0] for p in pairs], [p[2].split(",") for p in pairs]


def _run(folder, arguments):
    """The results of one run, which is made if its folder has none yet."""
    name = "_".join(a.lstrip("-").replace("/", "-") for a in arguments)
    out = folder / name
    path = out / "results.json"
    if not path.exists():
        out.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, str(_TRAIN), *arguments, f"--out={out}"]
        with (out / "log.txt").open("w") as log:
            code = subprocess.run(command, stdout=log, stderr=log).returncode
        if code:
            lines = (out / "log.txt").read_text().splitlines()
            tail = "\n".join(lines[-5:])
            sys.exit(f"{' '.join(command)}\nfailed with exit code {code}:\n{tail}")
    return json.loads(path.read_text())


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


def _spread(values):
    """Mean and standard deviation, in percent."""
    deviation = statistics.stdev(values) if len(values) > 1 else 0.0
    return f"{statistics.mean(values):.2%} ± {100 * deviation:.2f}"


if __name__ == "__main__":
    app.run(main)
