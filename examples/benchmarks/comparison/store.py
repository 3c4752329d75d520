"""Results as JSON files: written in one step, and found only by their own settings."""

import json
import os
import pathlib
import uuid

import numpy as np
from records import versions, write_json


class Store:
    """A folder of results.

    A result is found again only by the very settings that it was made with: a file has
    their hash in its name, and holds them. So results of other settings stay, and are
    never taken for those of the present ones. What a killed run was writing is no file
    yet.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def find(self, run):
        """The result of a `Run`, or None."""
        path = self._path(run)
        if not path.exists():
            return None
        result = json.loads(path.read_text())
        return result if result["setting"] == _plain(run.setting()) else None

    def keep(self, run, result, command):
        """Writes the result of a `Run`, a dict."""
        document = {
            "setting": run.setting(),
            **result,
            "command": command,
            "versions": versions(),
        }
        write_json(self._path(run), document)

    def all(self):
        """All results that were kept, in no matter what folder's order."""
        paths = sorted(self.folder.glob("runs/*/*.json"))
        return [json.loads(path.read_text()) for path in paths]

    def costs(self):
        """All measurements of steps that were kept."""
        paths = sorted(self.folder.glob("costs/*.json"))
        return [json.loads(path.read_text()) for path in paths]

    def keep_costs(self, network, figures):
        """Writes the measurement of a network's steps, a dict."""
        document = {**figures, "versions": versions()}
        write_json(self.folder / "costs" / f"{network}.json", document)

    def weights(self, name, make):
        """Arrays that several runs share, made once: those of dense pre-training.

        Args:
            name: Of their file.
            make: Function without arguments to a list of arrays and the seconds that
                it took to make them.

        Returns:
            The arrays, and these seconds.
        """
        path = self.folder / "pretrained" / f"{name}.npz"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            arrays, seconds = make()
            partial = path.with_name(f".{path.stem}.{uuid.uuid4().hex}.npz")
            try:
                np.savez(partial, seconds, *arrays)
                os.replace(partial, path)
            finally:
                partial.unlink(missing_ok=True)
        with np.load(path) as file:
            seconds, *arrays = (file[key] for key in file.files)
        return arrays, float(seconds)

    def _path(self, run):
        return self.folder / "runs" / f"{run.name}.json"


def _plain(data):
    """As JSON gives it back: tuples are lists."""
    return json.loads(json.dumps(data))
