"""The results of a study, and what its runs share."""

import io
import json
import pathlib

import numpy as np
from grid import Grid, claim
from records import versions, write_json

from scl_keras.files import write_whole


class Store(Grid):
    """The folder of a study: `runs`, `costs`, `remarks` and `pretrained`."""

    def __init__(self, folder):
        super().__init__(pathlib.Path(folder) / "runs")
        self.top = pathlib.Path(folder)

    def costs(self):
        """All measurements of steps that were kept."""
        paths = sorted(self.top.glob("costs/*.json"))
        return [json.loads(path.read_text()) for path in paths]

    def keep_costs(self, network, figures):
        """Writes the measurement of a network's steps, a dict."""
        document = {**figures, "versions": versions()}
        write_json(self.top / "costs" / f"{network}.json", document)

    def remarks(self):
        """What somebody wrote of a table, by the network and the protocol."""
        paths = self.top.glob("remarks/*.md")
        return {path.stem: path.read_text().strip() for path in paths}

    def weights(self, name, make):
        """Arrays that several runs share, made once: those of dense pre-training.

        Args:
            name: Of their file.
            make: Function without arguments to a list of arrays and the seconds that
                it took to make them.

        Returns:
            The arrays, and these seconds.
        """
        path = self.top / "pretrained" / f"{name}.npz"
        with claim(path):
            if not path.exists():
                arrays, seconds = make()
                buffer = io.BytesIO()
                np.savez(buffer, seconds, *arrays)
                write_whole(path, buffer.getvalue())
        with np.load(path) as file:
            seconds, *arrays = (file[key] for key in file.files)
        return arrays, float(seconds)
