"""`python -m stages fit|validate|test|predict --config stages/<stage>.yaml [overrides]`; the same as `clip2x fit|validate|test|predict`."""

import sys

from clip2x.cli import main

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["--help"]))
