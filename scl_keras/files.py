"""Files that are there as a whole or not at all."""

import os
import pathlib
import uuid


def write_whole(path: str | os.PathLike[str], content: bytes) -> None:
    """Writes a file, or leaves what was there as it was.

    Args:
        path: The file, which is replaced if it is there. Its folder exists.
        content: What is to be in it.
    """
    path = pathlib.Path(path)
    # In the same folder, for a rename across file systems is a copy.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with open(partial, "xb") as handle:
            handle.write(content)
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
