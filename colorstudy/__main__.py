"""`python -m colorstudy`."""

import sys

from colorstudy.cli import main

if __name__ == "__main__":
    sys.exit(main())
