#!/usr/bin/env python3
"""Runs a test module with the packages of requirements.txt; where they are missing, says so and exits with 77,
which ctest reports as skipped.

Usage: run_in_venv.py DIRECTORY MODULE"""

import os
import pathlib
import sys

SKIPPED = 77


def main() -> int:
    directory, module = pathlib.Path(sys.argv[1]), sys.argv[2]
    wanted = pathlib.Path(__file__).with_name("requirements.txt").read_text()
    stamp = directory / "installed.txt"
    if not stamp.exists() or stamp.read_text() != wanted:
        print(f"skipped: the packages of tests/clients/requirements.txt are not in {directory}; "
              f"run tests/clients/setup_venv.py {directory} where PyPI can be reached")
        return SKIPPED
    python = str(directory / "bin/python")
    os.execv(python, [python, "-m", "unittest", "-v", module])
    return 1


if __name__ == "__main__":
    sys.exit(main())
