#!/usr/bin/env python3
"""Checks that each folder includes only what its layer may know (docs/architecture.md)."""

import pathlib
import re
import sys

# folder -> folders of ours that it may include besides itself
ALLOWED = {
    "kernels": set(),
    "config": set(),
    "engine": {"kernels"},
    "net": set(),
    "actors": {"engine", "config", "kernels", "net"},
    "http": {"config"},
    "apps": {"actors", "net", "http", "config", "engine", "kernels"},
}
# folder -> libraries that it must not see
FORBIDDEN = {
    "kernels": re.compile(r"<(caf|boost)/"),
    "engine": re.compile(r"<(caf|boost/(asio|beast))"),
    "actors": re.compile(r"<boost/(asio|beast)"),
    "http": re.compile(r"<caf/"),
    "net": re.compile(r"<caf/"),
}
INCLUDE = re.compile(r'^\s*#\s*include\s*([<"][^>"]+[>"])')


def violations(root: pathlib.Path):
    """Yields one line of text for each include that breaks a rule."""
    for folder, allowed in ALLOWED.items():
        files = [p for p in (root / folder).rglob("*") if p.suffix in {".hpp", ".cpp", ".cu", ".cuh"}]
        if not files:
            yield f"{folder}: no source file found; is this the root of the repository?"
        for path in files:
            for number, line in enumerate(path.read_text().splitlines(), 1):
                match = INCLUDE.match(line)
                if not match:
                    continue
                target = match.group(1)
                place = f"{path.relative_to(root)}:{number}"
                if target.startswith('"'):
                    layer = target.strip('"').split("/")[0]
                    if layer in ALLOWED and layer != folder and layer not in allowed:
                        yield f"{place}: {folder} must not include {target}"
                    if layer == "tests":
                        yield f"{place}: product code must not include {target}"
                elif folder in FORBIDDEN and FORBIDDEN[folder].match(target):
                    yield f"{place}: {folder} must not include {target}"


def main() -> int:
    found = list(violations(pathlib.Path(sys.argv[1])))
    print("\n".join(found) or "every include stays within its layer")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
