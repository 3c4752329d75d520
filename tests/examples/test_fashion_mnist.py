"""The whole path: few lines, and they run."""

import ast
import pathlib
import re
import subprocess
import sys

import pytest

PATH = pathlib.Path(__file__).parents[2] / "examples" / "fashion_mnist.py"


def test_it_is_short():
    text = PATH.read_text()
    begin = ast.parse(text).body[0].end_lineno  # of the docstring
    assert len([line for line in text.splitlines()[begin:] if line.strip()]) < 20


@pytest.mark.slow
def test_it_runs_on_less(tmp_path):
    text = PATH.read_text()
    for large, small in (("fashion_mnist", "digits"), ("50_000", "1_200")):
        assert f"{large}" in text
        text = text.replace(large, small)
    (tmp_path / "digits.py").write_text(text)
    result = subprocess.run(
        [sys.executable, "digits.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr[-4000:]
    assert "connections" in result.stdout
    last = result.stdout.strip().splitlines()[-1]
    assert float(re.search(r"On test images: ([\d.]+)", last)[1]) > 0.8
    assert (tmp_path / "small" / "model.tflite").stat().st_size > 1000
