"""A grid of runs: each made once, whatever is killed and whoever shares it."""

import json
import os
import subprocess
import sys
import time

import pytest
from grid import Grid, Run

RUNS = [Run(f"run {i}", {"i": i, "pair": (i, None)}) for i in range(6)]
# Notes what it makes. The first run takes forever if it is told so.
PROGRAM = """
import pathlib, sys, time
from grid import Grid, Run

folder, hangs = pathlib.Path(sys.argv[1]), sys.argv[2:]

def make(run):
    with (folder / "made.txt").open("a") as file:
        file.write(run.name + "\\n")
    time.sleep(600 if hangs and run.values["i"] == 0 else 0.2)
    return {"square": run.values["i"] ** 2}

runs = [Run(f"run {i}", {"i": i, "pair": (i, None)}) for i in range(6)]
results = Grid(folder / "runs").complete(runs, make)
print([result["square"] for result in results])
"""


def start(folder, *hangs):
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(folder), *hangs],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def output(process):
    out, errors = process.communicate(timeout=900)
    assert process.returncode == 0, errors
    return out.strip()


def wait_until(condition):
    end = time.monotonic() + 900
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_what_failed_is_made_later_and_what_was_made_is_not_repeated(tmp_path):
    grid, made = Grid(tmp_path), []

    def make(run):
        if len(made) == 3:
            made.append(None)
            raise KeyboardInterrupt
        made.append(run.name)
        return {"square": run.values["i"] ** 2}

    with pytest.raises(KeyboardInterrupt):
        grid.complete(RUNS, make)
    assert len(grid.all()) == 3
    results = grid.complete([*RUNS, RUNS[0]], make)
    assert [r["square"] for r in results] == [0, 1, 4, 9, 16, 25, 0]
    assert made == [run.name for run in RUNS[:3]] + [None] + [r.name for r in RUNS[3:]]
    files = sorted(p.name for p in tmp_path.iterdir())
    assert files == sorted(f"{run.name}.json" for run in RUNS)  # and no locks
    result = json.loads((tmp_path / f"{RUNS[1].name}.json").read_text())
    assert list(result) == ["setting", "square", "command", "versions"]
    assert result["setting"] == {"i": 1, "pair": [1, None]}


def test_a_part_at_a_time(tmp_path):
    grid = Grid(tmp_path)
    parts = [grid.complete(RUNS, lambda run: {}, at_most=3) for _ in range(2)]
    assert parts == [None, grid.all()]


def test_a_result_of_another_setting_is_not_taken(tmp_path):
    grid = Grid(tmp_path)
    (result,) = grid.complete([Run("a/b", {"x": 1})], lambda run: {"y": 1})
    (other,) = grid.complete([Run("a/b", {"x": 2})], lambda run: {"y": 2})
    assert [result["y"], other["y"]] == [1, 2] and len(grid.all()) == 2
    # Nor if the file has its name.
    run = Run("a/b", {"x": 1})
    (tmp_path / f"{run.name}.json").write_text('{"setting": {"x": 3}}')
    assert grid.find(run) is None


@pytest.mark.slow
def test_processes_share_a_grid(tmp_path):
    processes = [start(tmp_path) for _ in range(3)]
    outputs = [output(process) for process in processes]
    assert outputs == ["[0, 1, 4, 9, 16, 25]"] * 3
    made = (tmp_path / "made.txt").read_text().splitlines()
    assert sorted(made) == [run.name for run in RUNS]
    assert not list(tmp_path.rglob("*.lock"))


@pytest.mark.slow
def test_the_run_of_a_killed_process_is_made_by_another(tmp_path):
    made, grid = tmp_path / "made.txt", Grid(tmp_path / "runs")
    first = start(tmp_path, "hangs")
    try:
        wait_until(made.exists)
        second = start(tmp_path)
        wait_until(lambda: len(grid.all()) == 5)
        time.sleep(0.5)
        assert second.poll() is None and grid.find(RUNS[0]) is None
    finally:
        first.kill()
        first.communicate()
    assert output(second) == "[0, 1, 4, 9, 16, 25]"
    names = made.read_text().splitlines()
    assert names == [run.name for run in [*RUNS, RUNS[0]]]
