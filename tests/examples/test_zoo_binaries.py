"""From a training to an entry of the zoo, and its check, by the commands for it."""

import json
import pathlib
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"


def run(name, *arguments, cwd):
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, timeout=900)


@pytest.mark.slow
def test_a_run_becomes_an_entry_that_is_verified_and_damage_is_found(tmp_path):
    trained = run("train_scl", "--smoke", "--seed=3", "--out", "r", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    made = run("zoo/make_card", "--run=r", "--name=mine", "--out=z", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    card = json.loads((tmp_path / "z" / "mine.json").read_text())
    results = json.loads((tmp_path / "r" / "results.json").read_text())
    assert card["command"] == "python examples/train_scl.py --smoke --seed=3"
    assert card["seed"] == 3 and card["kept"] == 1004
    assert card["accuracy"] == pytest.approx(results["accuracy"])
    assert card["dense_accuracy"] == results["dense_accuracy"]
    assert card["files"][".tflite"]["bytes"] == results["export"]["bytes_written"]
    assert "| seed | 3 |" in made.stdout
    small = (tmp_path / "z" / "mine.keras").stat().st_size
    assert small < (tmp_path / "r" / "stripped.keras").stat().st_size / 3
    right = run("zoo/verify_models", "--folder=z", "--seconds=0.1", cwd=tmp_path)
    assert right.returncode == 0, right.stderr
    assert "21 of 21 figures right" in right.stdout and "x as fast" in right.stdout
    with (tmp_path / "z" / "mine.tflite").open("ab") as file:
        file.write(b"0")
    damaged = run("zoo/verify_models", "--folder=z", "--seconds=0", cwd=tmp_path)
    assert damaged.returncode == 1
    assert "wrong: .tflite sha256" in damaged.stdout
    assert "1 of 1 entries are wrong" in damaged.stderr


@pytest.mark.slow
def test_mistakes_end_in_one_line(tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "results.json").write_text("{}")
    for name, argument, words in [
        ("zoo/make_card", "--run=r", "train again"),
        ("zoo/make_card", "--run=nowhere", "nowhere"),
        ("zoo/verify_models", "--folder=nowhere", "nowhere"),
        ("zoo/verify_models", "--folder=r", "no model"),
    ]:
        extra = ["--name=x"] if argument == "--folder=r" else []
        done = run(name, argument, *extra, cwd=tmp_path)
        assert done.returncode == 1
        assert words in done.stderr.splitlines()[-1]
        assert "Traceback" not in done.stderr
