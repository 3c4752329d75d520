r"""Compares methods of sparse training: same data, network, epochs, initial weights.

    python examples/benchmarks/compare_methods.py --network=lenet_300_100
    python examples/benchmarks/compare_methods.py --network=resnet --protocol=initial \
        --epochs=3 --samples=10000 --methods=dense,scl,gradual --compressions=10
    python examples/benchmarks/compare_methods.py --study \
        --out=examples/benchmarks/study

There are two protocols. *Trained, then fine-tuned* (`finetuned`): a dense network is
trained once a seed; from its weights every method has the same few epochs E. *From
initial weights* (`initial`): every method has E epochs in all, from the same initial
weights of a seed. Weights are trained with Adam whose rate decays by a cosine over each
phase. Biases are never cut. The methods:

    trained     the dense network that all start from; only with `finetuned`
    dense       E dense epochs: trained as long
    scl         sparsify, TargetSparsity: masks learned in the first two thirds of E
    scl_plain   the same by the rule of the paper: masks that start alike, at 0.03, and
                a mask learning rate that stays 3e-3
    scl_distilled  scl by a Distiller whose teacher is that dense network; only with
                `finetuned`
    scl_feature scl with mask gradients normalized for each feature, as in the paper *
    scl_flops   scl with cost="macs" and a target of multiply-accumulates, not of
                connections; only where there are convolutions *
    scl_raw     scl with normalization=None, plain SGD of rate 1.0 for the masks
                and a connection cost that TargetSparsity steers from 0 on *
    switcher    SwitcherModel over all kernels, TargetSparsity, otherwise as scl
    gradual     GradualPruning from 0 over all kernels together, in two thirds of E
    tfmot       TFMOT's prune_low_magnitude as it documents it: PolynomialDecay from
                50 % sparsity, each layer alike, on tf_keras +
    magnitude   the largest weights of all kernels, once, then fine-tuned +
    lamp        the best LAMP scores, once, then fine-tuned +
    snip        SNIP on 256 samples, once, then E epochs
    synflow     SynFlow in 100 rounds, then E epochs; not where there is attention
    random      random masks by IGQ quotas, then E epochs

    * only if asked for by --methods: they tell how SCL works, not what to choose
    + from initial weights after E/2 dense epochs, which are among the E

Methods that prune once are asked for effective compressions, and hit them: only
connections on a path from an input to an output count. Those that learn or prune during
training are asked for direct ones; what is effective in the end is measured, and drawn.

`--study` makes all of the plan in comparison/plan.py, the most telling first, whatever
the other flags say of networks and methods. Start it twice on two cores: two processes
with a thread each are faster than one with two.

Settings are chosen by `--validate`: it trains on all but the last samples of the
training data, and measures on those. Test data are not touched. Its runs have names of
their own, and go into validation.md instead of comparison.md.

Each run is kept as JSON in --out/runs, named after all its settings: a study that was
killed goes on, one with other settings doesn't take its results, and several processes
may share the folder: start the same command in each. Dense pre-trainings are shared in
--out/pretrained. Then it writes, of all results in --out that are of tasks and methods
as they are now:

    comparison.md     accuracy by method and compression; bold: the best; and the cells
                      in which SCL with its defaults is the worse choice, if any
    frontier.png      accuracy by effective compression, and by multiply-accumulates
    headline.png      the same of the small VGG that was trained before, alone
    costs/*.json      with --costs: time and memory of a training step (run it quietly)

In examples/benchmarks/study are the runs that docs/comparison.md is made of, by the
last of the lines above with --page=docs/comparison.md.
"""

import dataclasses
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[1]))  # of what all share
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")  # read when TensorFlow starts

from absl import app, flags, logging
from comparison import computing, frontier, study, tables
from comparison.methods import with_own_step
from comparison.plan import COMPRESSIONS, TASKS, study_runs
from comparison.store import Store
from comparison.tasks import PROTOCOLS, SEEDS
from records import write_text
from tqdm import tqdm

from scl_keras.datasets import DATASETS

FLAGS = flags.FLAGS
flags.DEFINE_bool("study", False, "Make the runs of the plan in comparison/plan.py.")
flags.DEFINE_multi_enum(
    "network", ["lenet_300_100"], list(TASKS["initial"]), "Networks."
)
flags.DEFINE_multi_enum("protocol", ["finetuned"], list(PROTOCOLS), "See above.")
flags.DEFINE_list("methods", None, "Methods, of those above; default: without the *.")
flags.DEFINE_list("compressions", list(map(str, COMPRESSIONS)), "To compare at.")
flags.DEFINE_list("seeds", list(map(str, SEEDS)), "Seeds, one run each.")
flags.DEFINE_enum("dataset", None, DATASETS, "Instead of the network's own.")
flags.DEFINE_integer("epochs", None, "Of a run; default: by network.", lower_bound=3)
flags.DEFINE_integer("dense_epochs", None, "Before E; default: by network.")
flags.DEFINE_integer("batch_size", None, "Samples a step; default: 128.", lower_bound=1)
flags.DEFINE_float("learning_rate", None, "Adam's first rate; default: 0.002.")
flags.DEFINE_integer(
    "samples", None, "Training samples, the first ones; default: by network."
)
flags.DEFINE_bool("validate", False, "Measure on held-out training data, not on test.")
flags.DEFINE_float("width", None, "Multiplier on filters, of networks that have one.")
flags.DEFINE_integer("depth", None, "Layers, of networks that have several depths.")
flags.DEFINE_integer("patch", None, "Side of a patch, of transformers.")
flags.DEFINE_bool("augment", None, "Mirror and shift images; default: by network.")
flags.DEFINE_bool("jit_compile", None, "Compile steps with XLA, slower on CPUs.")
flags.DEFINE_integer(
    "threads",
    None,
    "Threads of an operation; default: one with --study, else TensorFlow's.",
    lower_bound=1,
)
flags.DEFINE_bool("train", True, "Make the runs that are missing.")
flags.DEFINE_integer(
    "runs_per_process", 50, "Runs after which it starts itself anew.", lower_bound=1
)
flags.DEFINE_bool("costs", False, "Measure time and memory of a training step.")
flags.DEFINE_integer("turns", 20, "Turns of each method's step.", lower_bound=1)
flags.DEFINE_string("page", None, "Markdown page: tables go into it, pictures beside.")
flags.DEFINE_bool("download", False, "Let TFDS download data sets that are absent.")
flags.DEFINE_string(
    "data_dir", None, "Folder of the TFDS data sets; default: $TFDS_DATA_DIR."
)
flags.DEFINE_bool("smoke", False, "A run of seconds, to see that everything works.")
flags.DEFINE_string("out", None, "Folder to write to; default: runs/compare_methods.")


def main(argv):
    """Makes what is missing, then shows all."""
    if len(argv) > 1:
        raise app.UsageError(f"Unexpected arguments: {argv[1:]}")
    logging.set_verbosity(logging.ERROR)
    if FLAGS.smoke:
        computing.hurry()
    if threads := FLAGS.threads or int(FLAGS.study):
        computing.limit_threads(threads)
    store = Store(FLAGS.out or f"runs/compare_{'smoke' if FLAGS.smoke else 'methods'}")
    try:
        if FLAGS.train:
            make_runs(wanted_runs(), store)
        if FLAGS.costs:
            for task in {t.network: t for t in wanted_tasks()}.values():
                measure_costs(task, store)
        show(store)
    except (OSError, ValueError) as error:
        sys.exit(f"{type(error).__name__}: {error}")


def wanted_tasks():
    """The tasks of the flags, by protocol and network."""
    return [
        task_of(protocol, network)
        for protocol in dict.fromkeys(FLAGS.protocol)
        for network in dict.fromkeys(FLAGS.network)
    ]


def task_of(protocol, network):
    """The network's task, with what the flags change."""
    task = TASKS[protocol][network]
    names = {field.name for field in dataclasses.fields(task)}
    names -= {"network", "validation"}
    given = {name: FLAGS[name].value for name in names}
    if protocol == "initial":
        given["dense_epochs"] = None
    changed = {name: value for name, value in given.items() if value is not None}
    task = dataclasses.replace(task, **changed)
    task = task.small() if FLAGS.smoke else task
    return task.validating() if FLAGS.validate else task


def wanted_runs():
    """The runs of the flags."""
    if FLAGS.study:
        runs = study_runs(FLAGS.validate)
        if FLAGS.smoke:
            methods, compressions = ("trained", "dense", "scl"), (1, 10)
            runs = [
                dataclasses.replace(run, task=run.task.small())
                for run in runs
                if run.seed == 0
                and run.method in methods
                and run.compression in compressions
            ]
        return runs
    seeds, compressions = [int(s) for s in FLAGS.seeds], FLAGS.compressions
    methods = FLAGS.methods
    if FLAGS.smoke:
        seeds, compressions = [0], [20]
        methods = methods or with_own_step()
    compressions = [float(c) for c in compressions]
    return study.plan(wanted_tasks(), methods, compressions, seeds)


def make_runs(runs, store):
    """Trains what the store doesn't have yet."""

    def load(task):
        return task.load(FLAGS.data_dir, FLAGS.download)

    if study.complete(runs, store, load, at_most=FLAGS.runs_per_process) is None:
        # What XLA compiled stays in memory, in hundreds of mappings a run. Linux allows
        # a process 65,530, and TensorFlow crashes when it gets no more.
        os.execv(sys.executable, [sys.executable, *sys.argv])


def measure_costs(task, store):
    """Times the steps of all methods on a task, and keeps the figures."""
    from comparison import costs  # which needs TensorFlow

    turns, seconds = (2, 0.01) if FLAGS.smoke else (FLAGS.turns, 0.3)
    figures = costs.measure(task, turns, seconds, lambda x: tqdm(x, task.network))
    store.keep_costs(task.network, figures)


def show(store):
    """Writes the table and the picture, and prints the table."""
    results = store.all()
    if not results and FLAGS.costs:
        print(f"No runs yet to make a table of. Costs are in {store.top}/costs.")
        return
    remarks = None if FLAGS.validate else store.remarks()
    text = tables.report(results, store.costs(), FLAGS.validate, remarks)
    names = (
        ("validation", "validation") if FLAGS.validate else ("comparison", "frontier")
    )
    write_text(store.top / f"{names[0]}.md", text)
    folder = store.top
    if FLAGS.page is not None:
        tables.write_between_markers(FLAGS.page, text)
        folder = pathlib.Path(FLAGS.page).parent
    frontier.draw(results, FLAGS.validate).savefig(folder / f"{names[1]}.png", dpi=100)
    if not FLAGS.validate and (picture := frontier.headline(results)):
        picture.savefig(folder / "headline.png", dpi=100)
    print(text)


if __name__ == "__main__":
    app.run(main)
