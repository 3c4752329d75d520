r"""What files the networks of the comparison become: bytes and speed by compression.

    python examples/benchmarks/network_files.py --network=lenet_300_100

Trains each of --network as `compare_methods.py` does, dense and then with SCL by its
defaults for few epochs, and exports it. Speed is that of one sample on one thread of
the stock runtime, against the plain converter's file of the same network, measured in
alternation; `export_tflite` tells it with a 99.9 % interval. Each run is kept as JSON
in --out/runs: what was interrupted goes on. Prints a Markdown table, and writes it to
--out/files.md.
"""

import contextlib
import os
import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow starts

from absl import app, flags, logging
from comparison import computing
from comparison.plan import TASKS
from comparison.store import Store
from comparison.study import planned
from comparison.tasks import title_of
from comparison.training import trained_model
from records import write_text

import scl_keras

FLAGS = flags.FLAGS
flags.DEFINE_multi_enum(
    "network", list(TASKS["finetuned"]), list(TASKS["finetuned"]), "Networks."
)
flags.DEFINE_list("compressions", ["10", "100"], "By which connections are cut.")
flags.DEFINE_string("data_dir", None, "Folder of the TFDS data sets.")
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", "runs/network_files", "Folder to write to.")


def plan():
    """The runs of SCL to make files of."""
    tasks = [TASKS["finetuned"][network] for network in dict.fromkeys(FLAGS.network)]
    if FLAGS.smoke:
        tasks = [task.small() for task in tasks[:1]]
    compressions = map(float, FLAGS.compressions[: 1 if FLAGS.smoke else None])
    return [planned(t, "scl", c, seed=0) for c in compressions for t in tasks]


def make(run, store):
    """Trains and exports: a dict of figures."""
    data = run.task.load(FLAGS.data_dir)
    with contextlib.redirect_stdout(None), tempfile.TemporaryDirectory() as folder:
        model, _ = trained_model(run, data, store)
        report = scl_keras.export_tflite(
            model,
            pathlib.Path(folder) / "model.tflite",
            samples=data.x_test[:256],
            labels=data.y_test[:256],
            latency_seconds=0.1 if FLAGS.smoke else 4,
            verbose=0,
        )
    return report.as_dict()


def table(runs, results):
    """Markdown: a row for each network, two columns for each compression."""
    found = {(r.task, r.compression): x for r, x in zip(runs, results, strict=True)}
    compressions = list(dict.fromkeys(run.compression for run in runs))
    heads = ["network", "dense bytes"]
    heads += [x for c in compressions for x in (f"{c:g}x: bytes", "times as fast")]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for task in dict.fromkeys(run.task for run in runs):
        reports = [found[task, c] for c in compressions]
        cells = [title_of(task), f"{reports[0]['bytes_dense']:,}"]
        for report in reports:
            share = report["bytes_written"] / report["bytes_dense"]
            cells.append(f"{report['bytes_written']:,} ({share:.1%})")
            cells.append(f"{report['latency_ratio']:.2f}")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main(argv):
    """Makes what is missing, then shows all."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    logging.set_verbosity(logging.ERROR)
    if FLAGS.smoke:
        computing.hurry()
    store, runs = Store(FLAGS.out), plan()
    try:
        results = store.complete(runs, lambda run: make(run, store))
    except (OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")
    text = table(runs, results)
    write_text(store.top / "files.md", text)
    print(text)


if __name__ == "__main__":
    app.run(main)
