#!/usr/bin/env python3
"""Makes a virtual environment with tests/clients/requirements.txt, or leaves the one there that has it.

Usage: setup_venv.py DIRECTORY
Fails where PyPI cannot be reached; the tests that need the packages then say that they are skipped."""

import pathlib
import subprocess
import sys
import venv

REQUIREMENTS = pathlib.Path(__file__).with_name("requirements.txt")


def main() -> int:
    directory = pathlib.Path(sys.argv[1])
    stamp = directory / "installed.txt"
    wanted = REQUIREMENTS.read_text()
    if stamp.exists() and stamp.read_text() == wanted:
        return 0
    venv.create(directory, with_pip=True, clear=True)
    pip = [str(directory / "bin/python"), "-m", "pip", "--disable-pip-version-check", "-q"]
    installed = subprocess.run([*pip, "install", "-r", str(REQUIREMENTS)], check=False)
    if installed.returncode != 0:
        print("setup_venv: the packages could not be installed; the tests of the API clients will be skipped",
              file=sys.stderr)
        return 1
    stamp.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
