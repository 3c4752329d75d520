"""A sweep over connection costs, shared out to processes."""

import json
import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "benchmarks" / "tune_connection_cost.py"
COSTS = [0.0, 0.3, 1.0]


def start(folder):
    options = ["--samples=256", "--epochs=6", f"--out={folder}"]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), f"--costs={','.join(map(str, COSTS))}", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_find_the_frontier(tmp_path):
    processes = [start(tmp_path) for _ in range(2)]
    outputs = [process.communicate(timeout=900) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    rows = json.loads((tmp_path / "frontier.json").read_text())
    assert [row["connection_cost"] for row in rows] == COSTS
    compressions = [row["compression"] for row in rows]
    assert 1 <= compressions[0] < compressions[1] < compressions[2]
    assert outputs[0][0] == outputs[1][0]
    assert outputs[0][0].count("| 1 |") == 1
    assert len(list((tmp_path / "runs").iterdir())) == len(COSTS)
