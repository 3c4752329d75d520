"""The study of methods: what is repeated, and what its tables say."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from comparison import frontier, study, tables
from comparison.commands import command
from comparison.methods import METHODS, methods_for, usual_for
from comparison.plan import TASKS
from comparison.store import Store
from comparison.training import train

import scl_keras

SCRIPT = Path(__file__).parents[2] / "examples" / "benchmarks" / "compare_methods.py"
TASK = TASKS["initial"]["lenet_300_100"]


def run_of(method="scl", compression=10.0, seed=0, task=TASK):
    return study.planned(task, method, compression, seed)


def result_of(method, compression, seed, accuracy, effective=None, task=TASK):
    """A result as the store gives it back."""
    run = run_of(method, compression, seed, task)
    return {
        "setting": json.loads(json.dumps(run.setting())),
        "accuracy": accuracy,
        "cut_off": accuracy is None,
        "effective_compression": None if accuracy is None else effective or compression,
        "macs": 1000,
        "effective_macs": int(1000 / compression),
    }


def killed_after(number, made):
    """A training that is killed when it has been called so often."""

    def fake(run, data, store):
        if len(made) == number:
            raise KeyboardInterrupt
        made.append(run.name)
        return {"accuracy": 0.5, "data": data}

    return fake


def test_a_killed_study_goes_on_where_it_stopped(tmp_path):
    runs = study.plan([TASK], ["dense", "scl", "snip"], [10, 100], [0, 1])
    assert len(runs) == 2 * (1 + 2 * 2)  # the dense network once a seed
    store, made = Store(tmp_path), []
    with pytest.raises(KeyboardInterrupt):
        study.complete(runs, store, lambda task: 7, killed_after(4, made))
    assert len(store.all()) == 4
    results = study.complete(runs, store, lambda task: 7, killed_after(99, made))
    assert sorted(made) == sorted(run.name for run in runs)  # each of them once
    assert results == [store.find(run) for run in runs]
    assert results[-1]["data"] == 7


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"compression": 11.0},
        {"method": "snip"},
        {"parameters": (("mask_learning_rate", 0.5),)},
        {"edition": 99},
        *(
            {"task": dataclasses.replace(TASK, **{name: value})}
            for name, value in [
                ("epochs", 11),
                ("batch_size", 64),
                ("learning_rate", 1e-3),
                ("samples", 100),
                ("dataset", "fashion_mnist"),
                ("jit_compile", True),
                ("network", "lenet_5"),
                ("dense_epochs", 5),
                ("validation", 1000),
            ]
        ),
    ],
)
def test_other_settings_take_no_result(change, tmp_path):
    store, run = Store(tmp_path), run_of()
    store.keep(run, {"accuracy": 0.5})
    assert store.find(run)["accuracy"] == 0.5
    other = dataclasses.replace(run, **change)
    assert store.find(other) is None
    store.keep(other, {"accuracy": 0.6})
    assert store.find(run)["accuracy"] == 0.5  # and take none away


def test_weights_that_runs_share_are_made_once(tmp_path):
    arrays = [np.arange(6.0).reshape(2, 3), np.float32([1, 2])]
    calls = []

    def make():
        calls.append(1)
        return arrays, 3.5

    for _ in range(2):
        found, seconds = Store(tmp_path).weights("dense", make)
        assert seconds == 3.5
        for a, b in zip(arrays, found, strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
    assert len(calls) == 1


def test_a_study_can_be_made_in_parts(tmp_path):
    runs = study.plan([TASK], ["dense", "scl"], [10, 100], [0])
    store, made, done = Store(tmp_path), [], []
    for _ in range(2):
        arguments = lambda task: 7, killed_after(99, made)
        done.append(study.complete(runs, store, *arguments, at_most=2))
    assert done == [None, [store.find(run) for run in runs]]
    assert made == [run.name for run in runs]


def test_methods_are_left_out_where_they_say_nothing():
    asked = ["trained", "scl", "scl_flops", "synflow"]
    left_out = {
        ("initial", "lenet_300_100"): {"trained", "scl_flops"},
        ("finetuned", "lenet_300_100"): {"scl_flops"},
        ("initial", "lenet_5"): {"trained"},
        ("finetuned", "lenet_5"): set(),
        ("finetuned", "vision_transformer"): {"synflow"},
    }
    for (protocol, network), names in left_out.items():
        task = TASKS[protocol][network]
        made = {run.method for run in study.plan([task], asked, [10], [0])}
        assert made == set(asked) - names
        assert "scl_flops" not in usual_for(task)  # unless it is asked for


@pytest.mark.parametrize("protocol", TASKS)
@pytest.mark.parametrize("network", TASKS["initial"])
def test_the_usual_methods_need_no_flag(protocol, network):
    task = TASKS[protocol][network]
    names = usual_for(task)
    text = command(task, [result_of(m, 10.0, 0, 0.9, task=task) for m in names])
    assert f"--network={network} --protocol={protocol} " in text
    assert "--methods" not in text


def test_an_unknown_method_is_named():
    with pytest.raises(ValueError, match="Received: nothing"):
        study.plan([TASK], ["nothing"], [10], [0])


def test_sizes_are_refused_where_there_are_none():
    with pytest.raises(ValueError, match="lenet_300_100.*Received: width=0.5"):
        dataclasses.replace(TASK, width=0.5)
    assert dataclasses.replace(TASKS["initial"]["resnet"], width=0.5).width == 0.5
    with pytest.raises(ValueError, match="lenet_300_100.*Received: depth=8"):
        dataclasses.replace(TASK, depth=8)


def rows(text):
    """Cells of a table's rows, by the first."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    split = [[cell.strip() for cell in line[1:-1].split("|")] for line in lines]
    return {cells[0]: cells[1:] for cells in split}


def test_the_table_has_means_deviations_and_what_else_must_be_said():
    results = [
        *(result_of("dense", 1.0, s, a) for s, a in enumerate([0.98, 0.99])),
        *(result_of("scl", 10.0, s, a) for s, a in enumerate([0.97, 0.98])),
        *(result_of("snip", 10.0, s, 0.96, effective=20.0) for s in range(2)),
        result_of("gradual", 10.0, 0, 0.99),
        result_of("gradual", 10.0, 1, None),
        result_of("tfmot", 10.0, 0, None),
        result_of("tfmot", 10.0, 1, None),
        result_of("scl", 100.0, 0, 0.9),
        result_of("lamp", 100.0, 0, 0.8),
        result_of("lamp", 100.0, 1, 0.96),
        result_of("synflow", 100.0, 0, 0.98, effective=60.0),
        result_of("synflow", 100.0, 1, 0.98, effective=60.0),
    ]
    table = rows(tables.report(results))
    assert table["method"] == ["10x", "100x"]
    assert "dense: 98.50 ± 0.71" in table
    assert table["SCL"] == ["**97.50 ± 0.71**", "**90.00 (1 of 2 seeds)**"]
    assert table["SNIP"] == ["96.00 ± 0.00 (20x)", "-"]
    # A mean of those that survived is no mean to be best by.
    assert table["gradual magnitude"] == ["99.00 (1 of 2 cut off)", "-"]
    assert table["TFMOT `prune_low_magnitude`"] == ["cut off", "-"]
    assert table["LAMP, one-shot"] == ["-", "88.00 ± 11.31"]
    # Nor is one with more connections than others were given.
    assert table["SynFlow"] == ["-", "98.00 ± 0.00 (60x)"]
    frontier.draw(results)


def test_a_remark_stands_under_its_table(tmp_path):
    (tmp_path / "remarks").mkdir()
    result = result_of("scl", 10.0, 0, 0.9)
    task = result["setting"]["task"]
    protocol = "finetuned" if task["dense_epochs"] else "initial"
    name = f"{task['network']}_{protocol}"
    (tmp_path / "remarks" / f"{name}.md").write_text("SCL is alone.\n")
    remarks = Store(tmp_path).remarks()
    assert remarks == {name: "SCL is alone."}
    text = tables.report([result], remarks=remarks)
    assert "| 90.00 |\n\nSCL is alone.\n" in text.replace("**", "")
    assert "alone" not in tables.report([result], remarks={"another": "SCL is alone."})


def test_a_task_with_one_compression_is_drawn_only_without_frontiers():
    single = result_of("scl", 10.0, 0, 0.7)
    single["setting"]["task"] |= {"epochs": 3}
    results = [single, result_of("scl", 10.0, 0, 0.9)]
    assert len(frontier.draw(results).axes) == 4
    results.append(result_of("scl", 100.0, 0, 0.8))
    assert len(frontier.draw(results).axes) == 2


def test_tables_leave_out_what_was_made_with_other_parameters_and_part_tasks():
    old = result_of("scl_raw", 10.0, 0, 0.5)
    old["setting"]["parameters"] = {"mask_learning_rate": 123.0}
    other = result_of("scl", 10.0, 0, 0.7)
    other["setting"]["task"] |= {"epochs": 3, "samples": 500, "dataset": "digits"}
    results = [old, other, result_of("scl", 10.0, 0, 0.9)]
    text = tables.report(results)
    assert "without normalization" not in text
    assert text.index("70.00") < text.index("90.00")
    assert "the first 500 samples of digits" in text
    assert (
        "--dataset=digits --epochs=3 --samples=500 "
        "--methods=scl --compressions=10 --seeds=0`"
    ) in text


def test_costs_are_ratios_to_dense_and_shared_where_steps_are_alike():
    results = [result_of(m, 10.0, 0, 0.9) for m in ("scl", "snip", "lamp")]
    costs = {
        "task": dataclasses.asdict(TASK),
        "seconds": {"dense": 2.0, "scl": 3.0, "magnitude": 2.5},
        "bytes": {"dense": 2**20, "scl": 3 * 2**20, "magnitude": 2**21},
    }
    table = rows(tables.report(results, [costs]))
    assert table["SCL"][1:] == ["1.50", "3 MiB"]
    assert table["SNIP"][1:] == table["LAMP, one-shot"][1:] == ["1.25", "2 MiB"]
    other = costs | {"task": dataclasses.asdict(TASK) | {"batch_size": 64}}
    assert rows(tables.report(results, [other]))["SCL"][1:] == []


def test_the_readme_gets_its_table_between_markers_again_and_again(tmp_path):
    readme = tmp_path / "README.md"
    around = ["# Title\n", f"{tables.BEGIN}\n", f"{tables.END}\n", "the rest\n"]
    readme.write_text("".join(around))
    for text in ("| a |", "| b |", "| b |"):
        tables.write_between_markers(readme, text)
        lines = readme.read_text().split("\n")
        expected = ["# Title", tables.BEGIN, "", text, "", tables.END, "the rest", ""]
        assert lines == expected


@pytest.mark.parametrize(
    "text",
    ["nothing\n", f"{tables.BEGIN}\n", f"{tables.END}\n{tables.BEGIN}\n"],
)
def test_a_readme_without_markers_is_left_alone(text, tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(text)
    with pytest.raises(ValueError, match="comparison:begin"):
        tables.write_between_markers(readme, "| a |")
    assert readme.read_text() == text


@pytest.mark.slow
def test_one_run_is_what_it_says(tmp_path):
    """Pre-training and pruning, against the same by hand."""
    task = dataclasses.replace(
        TASK, dataset="digits", epochs=2, jit_compile=False, samples=256
    )
    data = task.load()
    assert len(data.x_train) == 256
    run = run_of("magnitude", 20.0, task=task)
    result = train(run, data, Store(tmp_path))
    assert result["effective"] == round(50_200 / 20)
    assert result["effective_compression"] == pytest.approx(20)
    assert result["macs"] == result["connections"] == 50_200
    assert result["effective_macs"] <= result["kept_macs"] == result["kept"]
    assert sum(kept for kept, _ in result["layers"].values()) == result["kept"]
    assert 0.1 < result["accuracy"] <= 1
    # The second run finds the weights of the first one's dense epoch.
    (path,) = tmp_path.glob("pretrained/*.npz")
    before = path.stat().st_mtime_ns
    again = train(run, data, Store(tmp_path))
    assert path.stat().st_mtime_ns == before
    assert again["accuracy"] == result["accuracy"]
    assert again["layers"] == result["layers"]
    # What is left is the largest of those weights.
    with np.load(path) as file:
        kernels = [file[k] for k in file.files if file[k].ndim == 2]
    model = task.build(data)
    model.set_weights([w for k in kernels for w in (k, np.zeros(k.shape[1]))])
    pruned = scl_keras.prune(
        model, "magnitude", compression=20, effective=True, verbose=0, copy=True
    )
    table = scl_keras.summary(pruned, print_fn=None)
    found = {row.layer: [row.kept, row.effective] for row in table.rows}
    assert found == {k: list(v) for k, v in result["layers"].items()}


@pytest.mark.slow
def test_a_smoke_run_of_all_methods_is_not_repeated(tmp_path):
    readme = tmp_path / "README.md"
    readme.write_text(f"{tables.BEGIN}\n{tables.END}\n")
    names = methods_for(TASK)
    # It starts itself anew on the way.
    options = ["--smoke", "--protocol=initial", "--runs_per_process=5"]
    options.append(f"--methods={','.join(names)}")
    options.append(f"--page={readme}")
    command = [sys.executable, str(SCRIPT), *options, f"--out={tmp_path / 'o'}"]
    times = []
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        paths = sorted((tmp_path / "o" / "runs").glob("*/*.json"))
        assert len(paths) == len(names)
        times.append([path.stat().st_mtime_ns for path in paths])
    assert times[0] == times[1]
    table = rows(readme.read_text())
    assert table == rows(done.stdout)
    assert table == rows((tmp_path / "o" / "comparison.md").read_text())
    for name in names:
        assert any(METHODS[name].title in title for title in table)
    for path in paths:
        result = json.loads(path.read_text())
        name, asked = result["setting"]["method"], result["setting"]["compression"]
        if name in ("magnitude", "lamp", "snip", "synflow", "random"):
            assert result["effective_compression"] == pytest.approx(asked, rel=0.01)
        elif name != "tfmot":  # which rounds in each layer
            assert result["direct_compression"] == pytest.approx(asked, rel=0.01)
        words = ["python", "examples/benchmarks/compare_methods.py", *options]
        assert result["command"] == " ".join(words)
        wanted = {"keras", keras.backend.backend(), "scl_keras"}
        assert wanted <= set(result["versions"])
    assert (tmp_path / "frontier.png").stat().st_size > 10_000


@pytest.mark.slow
def test_costs_of_all_methods_are_measured(tmp_path):
    command = [sys.executable, str(SCRIPT), "--smoke", "--costs", f"--out={tmp_path}"]
    command += ["--methods=dense"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = tmp_path.glob("costs/*.json")
    costs = json.loads(path.read_text())
    own = {name for name, m in METHODS.items() if m.usual and m.step is None}
    assert set(costs["seconds"]) == own | {"tf_keras"}
    assert set(costs["bytes"]) == own
    assert min(costs["seconds"].values()) > 0
    assert min(costs["bytes"].values()) > 2**20
