"""`python -m colorstudy`."""

from colorstudy.cli import main

raise SystemExit(main())
