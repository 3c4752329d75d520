"""Runs a grid of experiments: one JSON file a run, each of them made once.

A run is found again only by the very setting that it was made with: its file has the
setting's hash in its name, and holds it. So results of other settings stay, and are
never taken for those of the present ones.

What a killed process was writing is no file yet, and the next one goes on where it
stopped. Any number of processes may share a folder, also on several machines: start the
same command in each. Whoever makes a run holds a lock on a file beside it, which the
operating system takes back if the process dies (on a network drive, too, if that has
locks: NFS 4 does). In the end every process has all results.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import pathlib

from records import command_line, versions, write_json
from tqdm import tqdm


@dataclasses.dataclass(frozen=True)
class Run:
    """One experiment. Any object with this `name` and `setting()` will do, too.

    Attributes:
        title: What it is called; the hash of its setting is put behind.
        values: All that its result depends on, as a JSON-able dict.
    """

    title: str
    values: dict

    def setting(self):
        """All that its result depends on."""
        return self.values

    @property
    def name(self):
        """Of its file: readable, and another one for every other setting."""
        return f"{self.title.replace('/', '-')}_{digest(self.setting())}"


class Grid:
    """A folder of results.

    Args:
        folder: The folder, a path; made with the first result.
    """

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)

    def complete(self, runs, make, at_most=None, title=None):
        """Makes the runs that aren't there yet, with a progress bar over all.

        Args:
            runs: List of runs.
            make: Function from a run to its result, a JSON-able dict.
            at_most: Number of runs to make, or None for all that are missing.
            title: What stands in front of the bar.

        Returns:
            The results, in the order of `runs`; None if `at_most` of them were made and
            others are still missing.
        """
        missing = [run for run in runs if self.find(run) is None]
        there, made = len(runs) - len(missing), 0
        with tqdm(desc=title, total=len(runs), initial=there, unit="run") as bar:
            # At first what nobody is at; then what the others were at.
            for wait in (False, True):
                elsewhere = []
                for run in missing:
                    if made == at_most:
                        return None
                    bar.set_postfix_str(run.name)
                    with claim(self._path(run), wait) as is_mine:
                        if not is_mine:
                            elsewhere.append(run)
                            continue
                        if self.find(run) is None:  # nobody made it meanwhile
                            self.keep(run, make(run))
                            made += 1
                    bar.update()
                missing = elsewhere
        return [self.find(run) for run in runs]

    def find(self, run):
        """The result of a run with its setting, or None."""
        path = self._path(run)
        if not path.exists():
            return None
        result = json.loads(path.read_text())
        plain = json.loads(json.dumps(run.setting()))  # where tuples are lists
        return result if result.get("setting") == plain else None

    def keep(self, run, result):
        """Writes the result of a run, and what made it, as a whole or not at all."""
        document = {
            "setting": run.setting(),
            **result,
            "command": command_line(),
            "versions": versions(),
        }
        write_json(self._path(run), document)

    def all(self):
        """All results that were kept, by the names of their files."""
        paths = sorted(self.folder.rglob("*.json"))
        return [json.loads(path.read_text()) for path in paths]

    def _path(self, run):
        return self.folder / f"{run.name}.json"


@contextlib.contextmanager
def claim(path, wait=True):
    """Holds the lock on the making of a file, which no two processes have at once.

    Args:
        path: The file to be made. After an error, and after a kill, an empty
            `<path>.lock` is left beside it, which doesn't keep the next one from it.
        wait: Whether to wait until another process is done with it.

    Yields:
        Whether this process has the lock; always true with `wait`.
    """
    lock = path.with_name(f"{path.name}.lock")
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
            return
        yield True
        # Not after an error: the file must be there before others lose sight of this.
        lock.unlink(missing_ok=True)


def digest(data):
    """A short hash of JSON-able data."""
    text = json.dumps(data, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
