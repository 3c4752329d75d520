"""The index of the examples: complete, and right about how to start each."""

import os
import pathlib
import re
import resource
import subprocess
import sys

import pytest

EXAMPLES = pathlib.Path(__file__).parents[2] / "examples"
ROWS = {
    name: command
    for name, command in re.findall(
        r"^\| \[([\w/]+)\.py\]\(\1\.py\) \|.*?\| `([^`]*python examples/[^`]+)` \|",
        (EXAMPLES / "README.md").read_text(),
        re.MULTILINE,
    )
}
# What another one makes for it.
NEEDS = {"zoo/make_card": ["train_scl"]}


def binaries():
    """The names of those that are started, not imported."""
    paths = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*/*.py")]
    starts = ('__name__ == "__main__"', "# %%")
    found = [p for p in paths if any(s in p.read_text() for s in starts)]
    return sorted(str(p.relative_to(EXAMPLES).with_suffix("")) for p in found)


def start(name, folder):
    """Runs a binary by its line with --smoke; gives the seconds that CPUs worked."""
    line = ROWS[name].replace("python examples/", f"{sys.executable} {EXAMPLES}/")
    words = line.split()
    settings = dict(w.split("=", 1) for w in words if re.match(r"[A-Z_]+=", w))
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = subprocess.run(
        [*words[len(settings) :], "--smoke"],
        env=os.environ | settings,
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert result.stdout.strip()
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return sum(getattr(after, x) - getattr(before, x) for x in ("ru_utime", "ru_stime"))


def test_each_binary_has_a_row():
    assert sorted(ROWS) == binaries()
    for name, command in ROWS.items():
        assert f"examples/{name}.py" in command


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(ROWS))
def test_its_line_runs_with_smoke_in_less_than_a_minute(name, tmp_path):
    if "KERAS_BACKEND=jax" in ROWS[name]:
        pytest.importorskip("jax", reason="needs '.[backends]'")
    for other in NEEDS.get(name, ()):
        start(other, tmp_path)
    assert start(name, tmp_path) < 60
    assert any((tmp_path / "runs").rglob("*"))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(ROWS) - {"tour"}))  # that's a notebook
def test_help_explains(name):
    command = [sys.executable, str(EXAMPLES / f"{name}.py"), "--help"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=900)
    docstring = (EXAMPLES / f"{name}.py").read_text().split('"""')[1]
    assert docstring.strip().splitlines()[0] in result.stdout
    assert "--out" in result.stdout
