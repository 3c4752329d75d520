"""The study that is kept with the examples: its runs, and the table made of them."""

from pathlib import Path

import pytest
from comparison import study, tables
from comparison.methods import METHODS, methods_for
from comparison.store import Store
from comparison.tasks import Run, Task

ROOT = Path(__file__).parents[2]
STORE = Store(ROOT / "examples" / "benchmarks" / "study")
RESULTS = STORE.all()
GROUPS = tables.groups(RESULTS)
PART = ("resnet", 20)  # more steps, for the methods that there was time for


def _run(setting):
    task = Task(**setting["task"])
    parameters = tuple(setting["parameters"].items())
    method, compression, seed = (
        setting[key] for key in ("method", "compression", "seed")
    )
    return Run(task, method, compression, seed, parameters)


def test_every_run_is_found_by_its_settings_and_of_a_method_as_it_is_now():
    assert len(RESULTS) == sum(map(len, GROUPS.values())) > 100
    for result in RESULTS:
        assert STORE.find(_run(result["setting"])) == result


@pytest.mark.parametrize("task", GROUPS, ids=lambda task: task.network)
def test_no_run_is_missing(task):
    settings = [result["setting"] for result in GROUPS[task]]
    compressions = {s["compression"] for s in settings if s["method"] != "dense"}
    made, seeds = ({s[key] for s in settings} for key in ("method", "seed"))
    runs = study.plan([task], sorted(made), sorted(compressions), sorted(seeds))
    assert {run.name for run in runs} == {_run(s).name for s in settings}
    if (task.network, task.epochs) == PART:
        assert compressions == {10}
        return
    # Other ways of SCL may be left out.
    names = methods_for(task.network)
    assert {name for name in names if METHODS[name].step != "scl"} <= made
    assert {10, 100} <= compressions


@pytest.mark.parametrize("task", GROUPS, ids=lambda task: task.network)
def test_all_methods_trained_on_the_same(task):
    results = [result for result in GROUPS[task] if "connections" in result]
    assert len({(r["connections"], r["macs"]) for r in results}) == 1


def test_the_readme_has_the_table_that_is_made_of_them():
    costs = STORE.costs()
    assert {cost["task"]["network"] for cost in costs} == {t.network for t in GROUPS}
    text = (ROOT / "README.md").read_text()
    table = text.split(tables.BEGIN)[1].split(tables.END)[0]
    assert table.strip() == tables.report(RESULTS, costs).strip()
