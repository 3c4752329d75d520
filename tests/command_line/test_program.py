"""The program itself: help, exit codes, and what is on standard output."""

import json
import pathlib
import re
import subprocess
import sys

import keras
import numpy as np
import pytest
from keras import layers

import scl_keras
from scl_keras.command_line import prune, summary
from scl_keras.command_line.main import COMMANDS, main, parser
from scl_keras.pruning import get_method, get_quotas

ROOT = pathlib.Path(scl_keras.__file__).parents[1]


@pytest.fixture
def path(tmp_path):
    model = keras.Sequential([keras.Input((4,)), layers.Dense(3, name="only")])
    model.save(tmp_path / "model.keras")
    return str(tmp_path / "model.keras")


def helped(capsys, *arguments):
    with pytest.raises(SystemExit) as ended:
        main([*arguments, "--help"])
    assert ended.value.code == 0
    return capsys.readouterr().out


def test_help_has_all_commands(capsys):
    text = " ".join(helped(capsys).split())
    assert set(COMMANDS) == {"compress", "prune", "summary", "export", "verify"}
    for name, command in COMMANDS.items():
        assert f"{name} {command.SUMMARY}" in text
    assert "exit codes" in text


@pytest.mark.parametrize("name", list(COMMANDS))
def test_help_explains(name, capsys):
    text = helped(capsys, name)
    assert COMMANDS[name].DESCRIPTION in text
    assert f"python -m scl_keras {name} " in COMMANDS[name].DESCRIPTION  # an example
    for part in ("--json", "--import", "exit codes", "2  wrong usage"):
        assert part in text
    assert ("the answer is no" in text) == (name not in ("summary", "prune"))
    # No flag without a word.
    blocks = text[text.index("options:") : text.index("exit codes")].split("\n  -")
    assert len(blocks) > 4
    assert all(len(block.split()) > 2 for block in blocks[1:])


def commands_in(text):
    """What comes after `python -m scl_keras` in the lines of a text."""
    lines = text.replace("\\\n", " ").splitlines()
    found = [line.partition("python -m scl_keras ")[2] for line in lines]
    # As a shell reads them, and in prose as far as the code goes.
    return [
        re.split(r" [|>#]|[`),.](?: |$)", line)[0].split() for line in found if line
    ]


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def test_commands_of_the_help_and_of_the_pages_can_be_parsed():
    texts = [command.DESCRIPTION for command in COMMANDS.values()]
    texts += [page.read_text() for page in PAGES]
    texts.append((ROOT / "examples" / "train_jax_distributed.py").read_text())
    found = [words for text in texts for words in commands_in(text)]
    assert len(found) >= 17
    for words in found:
        if "--help" not in words:
            parser().parse_args(words)


def test_choices_are_those_of_the_package():
    for find, choices in ((get_method, prune.METHODS), (get_quotas, prune.QUOTAS)):
        with pytest.raises(ValueError) as error:
            find("nothing")
        assert str(sorted(choices))[1:-1] in str(error.value)


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nothing"],
        ["summary"],
        ["summary", "model.keras", "--wrong"],
        ["summary", "model.keras", "--input_shapes", "4,x"],
        ["prune", "model.keras", "--out=a.keras", "--method=best"],
        ["prune", "m.keras", "--out=a.keras", "--sparsity=.5", "--compression=2"],
        ["prune", "m.keras", "--out=a.keras", "--granularity=two"],
        ["export", "m.keras", "--out=a.tflite", "--samples=0"],
        ["verify", "m.tflite", "--data=a.npz"],
        ["compress", "m.keras", "--data=a.npz", "--out=a"],
    ],
)
def test_wrong_usage(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    found = capsys.readouterr()
    assert found.out == "" and "error:" in found.err


def test_bad_input_is_one_line_and_no_document(tmp_path, capsys):
    assert main(["summary", str(tmp_path / "none.keras"), "--json"]) == 2
    found = capsys.readouterr()
    assert found.out == ""
    assert found.err.startswith("python -m scl_keras summary: error: FileNotFoundError")
    assert len(found.err.splitlines()) == 1


def test_what_nobody_thought_of_has_a_traceback(path, capsys, monkeypatch):
    def run(flags):
        print("half a document")
        raise KeyError("nobody")

    monkeypatch.setattr(summary, "run", run)
    assert main(["summary", path, "--json"]) == 3
    found = capsys.readouterr()
    assert found.out == ""
    assert "Traceback" in found.err and "KeyError: 'nobody'" in found.err


def test_an_interruption(path, capsys, monkeypatch):
    def run(flags):
        raise KeyboardInterrupt

    monkeypatch.setattr(summary, "run", run)
    assert main(["summary", path]) == 130
    assert capsys.readouterr().err.endswith("interrupted\n")


def test_summary(path, capsys):
    table = scl_keras.summary(keras.saving.load_model(path), print_fn=None)
    assert main(["summary", path]) == 0
    assert capsys.readouterr().out == f"{table}\n"
    assert main(["summary", path, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == json.loads(json.dumps(table.as_dict()))
    assert found["connections"] == 12


def test_json_has_no_infinity(path, capsys):
    model = keras.saving.load_model(path)
    model.layers[0].kernel.assign(np.zeros((4, 3)))
    model.save(path)
    assert main(["summary", path, "--json"]) == 0

    def refuse(text):
        raise AssertionError(text)

    found = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert found["kept"] == 0 and found["compression"] is None


def test_shapes_of_open_inputs(tmp_path, capsys):
    stack = [layers.Conv2D(2, 3), layers.GlobalMaxPooling2D(), layers.Dense(2)]
    model = keras.Sequential([keras.Input((None, None, 1)), *stack])
    model.save(tmp_path / "open.keras")
    path = str(tmp_path / "open.keras")
    assert main(["summary", path, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["effective"] is None
    assert main(["summary", path, "--json", "--input_shapes", "8,8,1"]) == 0
    assert json.loads(capsys.readouterr().out)["effective"] == 22
    assert main(["summary", path, "--input_shapes", "8,8"]) == 2


def process(*arguments, **options):
    command = [sys.executable, "-m", "scl_keras", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, **options)


@pytest.mark.slow
def test_a_process_prints_the_document_and_nothing_else(path, tmp_path):
    """TensorFlow's own words are elsewhere, and masked models can be read."""
    pruned = str(tmp_path / "pruned.keras")
    ended = process("prune", path, f"--out={pruned}", "--sparsity=0.5", "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["connections"]["kept"] == 6
    ended = process("summary", pruned, "--json")
    assert ended.returncode == 0, ended.stderr
    assert json.loads(ended.stdout)["rows"][0]["masked"] is True
    ended = process("verify", path, f"--model={path}", f"--data={path}", "--json")
    assert ended.returncode == 2
    assert ended.stdout == ""


PROGRAM = """
import runpy, sys

sys.argv = ["-m", "--help"]
sys.orig_argv = ["python", "-m", "scl_keras", "--help"]
import scl_keras

sys.argv[0] = scl_keras.__file__
try:
    runpy.run_module("scl_keras.__main__", run_name="__main__")
except SystemExit as ended:
    assert ended.code == 0
assert not {"keras", "tensorflow", "matplotlib"} & set(sys.modules)

import importlib

importlib.reload(scl_keras)  # as a command does
assert scl_keras.prune.__module__ == "scl_keras.pruning.prune"
assert all(hasattr(scl_keras, name) for name in scl_keras.__all__)
"""


@pytest.mark.slow
def test_help_waits_for_nothing():
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True
    )
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("argv", "orig"),
    [
        (["-m", "x"], ["python", "-m", "mine", "x"]),  # which imports it
        (["-m"], ["python", "-m", "mine"]),
        (["-c"], ["python", "-c", "import scl_keras"]),
        (["a.py", "scl_keras"], ["python", "a.py", "scl_keras"]),
        ([], ["python"]),
    ],
)
def test_other_programs_get_all_at_once(monkeypatch, argv, orig):
    monkeypatch.setattr(sys, "argv", argv)
    monkeypatch.setattr(sys, "orig_argv", orig)
    assert not scl_keras._is_sought_as_program()
    for own in (["-m", "scl_keras"], ["-mscl_keras"]):
        monkeypatch.setattr(sys, "argv", ["-m", "summary", "a"])
        monkeypatch.setattr(sys, "orig_argv", ["python", *own, "summary", "a"])
        assert scl_keras._is_sought_as_program()
