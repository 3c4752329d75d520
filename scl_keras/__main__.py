"""The command line: `python -m scl_keras --help`."""

import sys

from scl_keras.command_line.main import main

if __name__ == "__main__":
    sys.exit(main())
