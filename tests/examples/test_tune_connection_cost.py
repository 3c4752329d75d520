"""A sweep over connection costs, shared out to processes by KerasTuner."""

import json
import os
import pathlib
import socket
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
SCRIPT = EXAMPLES / "benchmarks" / "tune_connection_cost.py"
COSTS = [0.0, 0.3, 1.0]


def start(folder, tuner, port):
    settings = {
        "KERASTUNER_ORACLE_IP": "127.0.0.1",
        "KERASTUNER_ORACLE_PORT": str(port),
        "KERASTUNER_TUNER_ID": tuner,
    }
    options = ["--samples=256", "--epochs=6", f"--out={folder}"]
    return subprocess.Popen(
        [sys.executable, str(SCRIPT), f"--costs={','.join(map(str, COSTS))}", *options],
        env=os.environ | settings,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_a_chief_and_two_workers_find_the_frontier(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    processes = [start(tmp_path, name, port) for name in ("chief", "tuner0", "tuner1")]
    outputs = [process.communicate(timeout=900) for process in processes]
    for process, (_, errors) in zip(processes, outputs, strict=True):
        assert process.returncode == 0, errors
    rows = json.loads((tmp_path / "frontier.json").read_text())
    assert [row["connection_cost"] for row in rows] == COSTS
    compressions = [row["compression"] for row in rows]
    assert 1 <= compressions[0] < compressions[1] < compressions[2]
    assert outputs[0][0].count("| 1 |") == 1
    trials = (tmp_path / "trials").glob("trial_*/trial.json")
    assert len(list(trials)) == len(COSTS)
