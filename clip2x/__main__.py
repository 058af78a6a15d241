"""`python -m clip2x` is the `clip2x` command."""

import sys

from clip2x.cli import main

if __name__ == "__main__":
    sys.exit(main())
