"""Commands of the documents and of the examples: the binary is there, and its flags."""

import importlib.util
import pathlib
import sys

import pytest
from absl import flags

from .blocks import ROOT, commands_of

EXAMPLES = ROOT / "examples"
TEXTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "saved_models" / "README.md",
    *sorted(EXAMPLES.glob("*.md")),
    *sorted(EXAMPLES.glob("*.py")),
    *sorted(EXAMPLES.glob("*/*.py")),
]


def commands(path):
    """The commands of a document, or of a binary's docstring."""
    text = path.read_text()
    if path.suffix == ".md":
        return commands_of(text)
    docstring = text.split('"""')[1] if '"""' in text else ""
    return commands_of(f"```bash\n{docstring}\n```\n")


COMMANDS = {
    " ".join([name, *arguments]): (name, arguments)
    for path in TEXTS
    for name, arguments in commands(path)
}


@pytest.fixture
def parse(monkeypatch):
    """A function that parses arguments as a binary does; flags are forgotten after."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # binaries add to it
    loaded = set(sys.modules)
    before = set(flags.FLAGS)

    def forget():
        for name in set(flags.FLAGS) - before:
            delattr(flags.FLAGS, name)
        for name in set(sys.modules) - loaded:
            file = pathlib.Path(getattr(sys.modules[name], "__file__", None) or "")
            if EXAMPLES in file.parents:
                del sys.modules[name]

    def parse(name, arguments):
        forget()
        spec = importlib.util.spec_from_file_location("binary", EXAMPLES / name)
        spec.loader.exec_module(importlib.util.module_from_spec(spec))
        return flags.FLAGS([name, *arguments])[1:]

    yield parse
    forget()


def test_commands_are_found():
    assert len(COMMANDS) > 20
    assert sum(name == "sweep.py" for name, _ in COMMANDS.values()) >= 5


# TFMOT, when it is imported.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_a_command_fits_its_binary(command, parse):
    name, arguments = COMMANDS[command]
    assert (EXAMPLES / name).is_file()
    if name == "tour.py":  # a notebook
        assert arguments in ([], ["--smoke"])
        return
    if name == "fashion_mnist.py":  # a script without flags
        assert arguments == []
        return
    rest = parse(name, [a for a in arguments if a != "--help"])
    if name == "sweep.py":  # what follows `--` is for the binary that it repeats
        own = arguments[: arguments.index("--")] if "--" in arguments else arguments
        binary = next((a for a in own if a.startswith("--binary=")), "=train_scl")
        rest = parse(f"{binary.split('=')[1]}.py", rest)
    assert rest == []


def test_a_wrong_flag_is_found(parse):
    with pytest.raises(flags.UnrecognizedFlagError):
        parse("train_scl.py", ["--compresion=50"])
    with pytest.raises(flags.IllegalFlagValueError):
        parse("train_scl.py", ["--architecture=alexnet"])
