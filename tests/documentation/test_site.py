"""The documentation is built without a warning, and has all that is public."""

import importlib
import importlib.util
import re
import subprocess
import sys
from collections import Counter

import pytest

from .blocks import ROOT
from .public import public_names, public_objects


def documented():
    """The names after `:::` of all pages."""
    pages = (ROOT / "docs" / "reference").glob("*.md")
    return [n for p in pages for n in re.findall(r"^::: (\S+)$", p.read_text(), re.M)]


def located(name):
    """What is called so. (`pydoc.locate` takes the function `vgg` for its module.)"""
    module, _, name = name.rpartition(".")
    return getattr(importlib.import_module(module), name)


def test_the_reference_has_each_public_object_once():
    found = Counter(
        f"{value.__module__}.{value.__qualname__}"
        for value in map(located, documented())
        if hasattr(value, "__qualname__")
    )
    assert found == Counter(public_objects().keys())


def test_the_reference_has_the_public_constants():
    names = set(documented())
    for name, value in public_names().items():
        if isinstance(value, (tuple, dict)):
            others = {n for n, v in public_names().items() if v is value}
            assert names & others, name


def test_each_page_of_the_reference_is_in_its_index():
    folder = ROOT / "docs" / "reference"
    index = (folder / "index.md").read_text()
    for page in folder.glob("*.md"):
        assert page.name == "index.md" or f"({page.name})" in index


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("mkdocs") is None
    or importlib.util.find_spec("mkdocstrings") is None,
    reason="the extra 'docs' is not installed: pip install '.[docs]'",
)
def test_the_site_is_built_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "-d", str(tmp_path / "site")]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "WARNING" not in result.stderr
    page = (tmp_path / "site" / "reference" / "models" / "index.html").read_text()
    assert 'id="scl_keras.sparsify"' in page
