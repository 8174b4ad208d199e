"""Where a byte of a loaded crash by normal waits for the panic.

python3 -m guest.waits_at PLAN NAME OFFSET   print its physical address; OFFSET is in the segment
                                             with this name, and may be negative, from its end
"""

from __future__ import annotations

import json
import sys
from pathlib import Path


def main(path: str, name: str, offset: str) -> int:
    plan = json.loads(Path(path).read_text())
    (item,) = [item for item in plan["stage"] if item["name"] == name]
    at = int(item["mem"], 16) + int(offset) % item["bufsz"]
    for run in plan["backup_map"]:
        dest = int(run["dest"], 16)
        if dest <= at < dest + run["size"]:
            at += int(run["source"], 16) - dest
            break
    print(f"{at:#x}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
