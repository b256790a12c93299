"""`python -m sampan.cli`: how the command starts the engine with the interpreter it runs in."""

import sys

from sampan.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
