#!/usr/bin/env python3
"""Checks that objects compiled for an instruction set define no symbol that the linker may share with others.

An inline function or template instance of external linkage is emitted by every unit that uses it, and the linker
keeps any one copy: a copy with AVX-512 instructions would crash the program on a CPU without them.

usage: check_kernel_objects.py NM OBJECT...
"""

import subprocess
import sys

# nm's letters for weak symbols and for unique globals
SHARED = {"W", "V", "u"}


def shared_symbols(nm: str, path: str) -> list[str]:
    """The demangled names of the symbols of one object that the linker may merge."""
    listing = subprocess.run([nm, "-C", "--defined-only", path], check=True, capture_output=True, text=True)
    lines = (line.split(maxsplit=2) for line in listing.stdout.splitlines())
    return [name for _, kind, name in lines if kind in SHARED]


def main() -> int:
    nm, *objects = sys.argv[1:]
    if not objects:
        print("no objects to check", file=sys.stderr)
        return 1
    found = [(path, name) for path in objects for name in shared_symbols(nm, path)]
    for path, name in found:
        print(f"{path} shares {name}", file=sys.stderr)
    print(f"{len(objects)} objects, {len(found)} shared symbols")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
