r"""Measures exported files: trained masks, size and speed against the dense file.

    python examples/benchmarks/export.py --data_dir=... --case=lenet_300_100
    python examples/benchmarks/export.py --dtype=int8

Trains each of --case dense, then with masks, and exports it. Speed is that of the stock
LiteRT runtime with one thread and one sample: the median time of the plain converter's
file under its default delegate over that of another file, measured in alternation. Size
is compared with the bitmap limit of the same masks (four bytes a non-zero weight and
one bit a weight), and with the file that TFMOT's pipeline makes of its own `tf_keras`
model of the same shape and sparsity, converted with `EXPERIMENTAL_SPARSITY`. Models are
kept in --out, so that a run that was interrupted goes on. Prints a Markdown table, and
writes to --out:

    models/                     the sparse models, and their accuracies
    <case>.tflite, <case>.png   the file of each, and all its files
    benchmark_export.json       all figures
"""

import dataclasses
import functools
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share

import experiment
import keras
import tfmot_baseline
from absl import flags
from grid import Grid, Run
from keras import layers

import scl_keras
from scl_keras import architectures

FLAGS = flags.FLAGS
FLAGS.set_default("batch_size", 128)


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, and how it becomes sparse.

    Attributes:
        dataset: A key of `DATASETS`.
        build: Function of the shape of an image and the number of classes.
        sparsity: Share of the masked connections to cut.
        masks: Arguments of `sparsify`.
        cost: What a connection costs, as for `SCLModel.compile`.
        epochs: Epochs with masks.
        dense_epochs: Epochs of the dense network before.
        block: Shape of TFMOT's blocks.
        tfmot: Whether TFMOT has such masks at all.
    """

    dataset: str
    build: callable
    sparsity: float
    masks: dict = dataclasses.field(default_factory=dict)
    cost: str = "connections"
    epochs: int = 20
    dense_epochs: int = 4
    block: tuple[int, int] = (1, 1)
    tfmot: bool = True


def wide_mlp(input_shape, num_classes):
    """Two hidden dense layers of 2048 units."""
    return keras.Sequential(
        [
            keras.Input(input_shape),
            layers.Flatten(),
            layers.Dense(2048, "relu"),
            layers.Dense(2048, "relu"),
            layers.Dense(num_classes),
        ]
    )


def in_blocks():
    """Masks over four consecutive inputs of a dense layer: TFLite's 1x4 form."""
    return {"granularity": {layers.Dense: scl_keras.Block(4)}}


# What each case masks is made when it runs: a dict, or a function that returns one.
CASES = {
    "lenet_300_100": Case("mnist", architectures.lenet_300_100, 0.99),
    "lenet_300_100_blocks": Case(
        "mnist", architectures.lenet_300_100, 0.98, in_blocks, block=(4, 1)
    ),
    "mlp_2048_blocks": Case(
        "mnist", wide_mlp, 0.9, in_blocks, epochs=6, dense_epochs=2, block=(4, 1)
    ),
    "mobilenet_channels": Case(
        "fashion_mnist",
        functools.partial(architectures.mobilenet, width=0.25),
        0.8,
        {"runtime": "compact"},
        cost="macs",
        epochs=16,
        dense_epochs=8,
        tfmot=False,
    ),
}

flags.DEFINE_multi_enum("case", list(CASES), list(CASES), "Cases to measure.")
flags.DEFINE_enum(
    "dtype", "float32", ["float32", "float16", "int8"], "Coarsest precision allowed."
)
flags.DEFINE_enum(
    "optimize_for", "balanced", ["balanced", "size", "latency"], "What is written."
)
flags.DEFINE_float("seconds", 10.0, "How long to time a case's files.", lower_bound=0.1)
flags.DEFINE_integer("limit", 1000, "Samples to compare on.", lower_bound=1)

COLUMNS = {
    "case": "{}",
    "sparsity": "{:.2%}",
    "dense accuracy": "{:.2%}",
    "sparse accuracy": "{:.2%}",
    "dense bytes": "{:,}",
    "written": "{}",
    "bytes": "{:,}",
    "to bitmap limit": "{:.3f}",
    "to TFMOT's": "{:.3f}",
    "times as fast": "{:.2f}",
    "fastest": "{}",
    "fastest, times": "{:.2f}",
    "smallest": "{}",
    "smallest bytes": "{:,}",
}


def run():
    """Measures the cases, prints the table."""
    FLAGS.out = FLAGS.out or "runs/benchmark_export"
    folder = experiment.out_folder()
    cases = FLAGS.case[: 1 if FLAGS.smoke else None]
    trainings, grid = [_training(name) for name in cases], Grid(folder / "models")
    grid.complete(trainings, lambda training: _train(training, grid.folder))
    rows = {t.title: measure(t, grid, folder) for t in trainings}
    experiment.write_results(folder / "benchmark_export.json", {"cases": rows})
    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    for row in rows.values():
        cells = [
            "-" if row[column] is None else form.format(row[column])
            for column, form in COLUMNS.items()
        ]
        print("| " + " | ".join(cells) + " |")
    for name, row in rows.items():
        for note in row["report"]["notes"]:
            print(f"{name}: {note}")


def measure(training, grid, folder):
    """Exports one case: a dict of its figures."""
    name, case = training.title, CASES[training.title]
    data, _, test = _load(case)
    model = keras.saving.load_model(grid.folder / f"{training.name}.keras")
    trained = grid.find(training)
    report = scl_keras.export_tflite(
        model,
        folder / f"{name}.tflite",
        samples=test[0][: FLAGS.limit],
        labels=test[1][: FLAGS.limit],
        optimize_for=FLAGS.optimize_for,
        dtype=FLAGS.dtype,
        latency_seconds=0.3 if FLAGS.smoke else FLAGS.seconds,
    )
    print(f"{name}\n{report}\n")
    report.plot().savefig(folder / f"{name}.png", dpi=100)
    correct = [attempt for attempt in report.attempts if attempt.correct]
    fastest = max(correct, key=lambda attempt: attempt.latency_ratio)
    smallest = min(correct, key=lambda attempt: attempt.bytes)
    tfmot_bytes = None
    if case.tfmot:
        twin = tfmot_baseline.legacy_twin(_functional(case.build, data))
        tfmot_bytes = len(tfmot_baseline.sparse_tflite(twin, case.sparsity, case.block))
    return {
        "case": name,
        "sparsity": scl_keras.summary(model, print_fn=None).sparsity,
        "dense accuracy": trained["dense accuracy"],
        "sparse accuracy": trained["sparse accuracy"],
        "dense bytes": report.bytes_dense,
        "written": report.candidate,
        "bytes": report.bytes_written,
        "to bitmap limit": report.bytes_written / report.bytes_bitmap,
        "TFMOT's bytes": tfmot_bytes,
        "to TFMOT's": tfmot_bytes and report.bytes_written / tfmot_bytes,
        "times as fast": report.latency_ratio,
        "fastest": fastest.candidate,
        "fastest, times": fastest.latency_ratio,
        "smallest": smallest.candidate,
        "smallest bytes": smallest.bytes,
        "report": report.as_dict(),
    }


def _load(case):
    """The case's data, or a few small images in a smoke run."""
    FLAGS.dataset = "digits" if FLAGS.smoke else case.dataset
    return experiment.load_data()


def _functional(build, data):
    """A new network, functional whatever `build` makes."""
    model = build(data.input_shape, data.num_classes)
    return keras.Model(model.inputs[0], model.outputs[0])


def _training(name):
    """The training of a case, with all that its result depends on."""
    case = CASES[name]
    epochs = (1, 3) if FLAGS.smoke else (case.dense_epochs, case.epochs)
    setting = {"case": name, "epochs": epochs, "sparsity": case.sparsity}
    options = ("smoke", "batch_size", "learning_rate", "jit_compile", "seed")
    return Run(name, setting | {key: FLAGS[key].value for key in options})


def _train(training, folder):
    """Trains a case, and keeps the model in the folder; its accuracies."""
    case, (dense_epochs, epochs) = CASES[training.title], training.values["epochs"]
    data, train, test = _load(case)
    keras.utils.set_random_seed(FLAGS.seed)
    model = _functional(case.build, data)
    experiment.compile_model(model, len(train[0]), dense_epochs)
    experiment.fit(model, train, test, dense_epochs)
    dense_accuracy = experiment.accuracy(model, test)
    masks = case.masks() if callable(case.masks) else case.masks
    scl_keras.sparsify(model, **masks)
    experiment.compile_model(model, len(train[0]), epochs, cost=case.cost)
    target = scl_keras.TargetSparsity(case.sparsity)
    experiment.fit(model, train, test, epochs, [target])
    model.save(folder / f"{training.name}.keras")
    return {
        "dense accuracy": dense_accuracy,
        "sparse accuracy": experiment.accuracy(model, test),
    }


if __name__ == "__main__":
    experiment.main(run)
