"""The study that is kept with the examples: its runs, and the table made of them."""

from pathlib import Path

import pytest
from comparison import tables
from comparison.cells import groups
from comparison.methods import usual_for
from comparison.plan import STUDY, study_runs
from comparison.store import Store
from comparison.tasks import PROTOCOLS, run_of

ROOT = Path(__file__).parents[2]
STORE = Store(ROOT / "examples" / "benchmarks" / "study")
RESULTS = STORE.all()
GROUPS = groups(RESULTS)

needs_runs = pytest.mark.skipif(
    any(STORE.find(run) is None for run in study_runs()),
    reason="the study isn't finished: compare_methods.py --study goes on with it",
)


@needs_runs
def test_every_run_is_found_by_its_settings_and_of_a_method_as_it_is_now():
    assert len(RESULTS) == sum(map(len, GROUPS.values()))
    for result in RESULTS:
        assert STORE.find(run_of(result["setting"])) == result


@needs_runs
def test_the_runs_are_those_of_the_plan():
    made = {run_of(result["setting"]) for some in GROUPS.values() for result in some}
    assert made == set(study_runs())


@pytest.mark.parametrize("task", GROUPS, ids=lambda t: f"{t.network}_{t.protocol}")
def test_all_methods_trained_on_the_same(task):
    results = [result for result in GROUPS[task] if "connections" in result]
    assert len({(r["connections"], r["macs"]) for r in results}) == 1


@needs_runs
def test_the_page_has_the_table_that_is_made_of_them():
    costs, remarks = STORE.costs(), STORE.remarks()
    assert remarks.keys() == {f"{t.network}_{t.protocol}" for t in GROUPS}
    assert {cost["task"]["network"] for cost in costs} == {t.network for t in GROUPS}
    text = (ROOT / "docs" / "comparison.md").read_text()
    table = text.split(tables.BEGIN)[1].split(tables.END)[0]
    assert table.strip() == tables.report(RESULTS, costs, remarks=remarks).strip()


def test_the_plan_begins_with_what_tells_most():
    runs = study_runs()
    assert len(runs) == len(set(runs))
    networks = {part.network for part in STUDY}
    # The dense networks of all come first, since the others wait for them.
    first = runs[: 2 * len(networks)]
    assert {run.task.network for run in first} == networks
    assert {run.method for run in first} == {"trained", "dense"}
    stages = list(dict.fromkeys((run.task.protocol, run.seed) for run in runs))
    assert stages[:4] == [
        *((p, 0) for p in PROTOCOLS),
        *(("finetuned", s) for s in (1, 2)),
    ]
    seeds = {run.seed for run in runs if run.task.protocol == "finetuned"}
    assert len(seeds) == 3


def test_the_plan_has_what_others_are_compared_by():
    for part in STUDY:
        assert {"dense", "scl", "gradual", "lamp"} <= {*part.methods}
        assert 10 in part.compressions
    for network in {part.network for part in STUDY}:
        parts = [p for p in STUDY if (p.protocol, p.network) == ("finetuned", network)]
        dear = network == "resnet"
        seeds = {seed for part in parts for seed in part.seeds}
        assert seeds == ({0} if dear else {0, 1, 2})
        wanted = {10, 100} if dear else {5, 10, 30, 100}
        assert all(wanted <= {*part.compressions} for part in parts)
        if not dear:
            assert set(parts[0].methods) == set(usual_for(parts[0].task))  # all of them
    runs, validating = study_runs(), study_runs(validate=True)
    assert all(run.task.validation for run in validating)
    assert not {run.name for run in runs} & {run.name for run in validating}
