"""The pattern's pages by the plan of a load in mode lent.

python3 -m guest.lent_frames FRAMES PLAN KEPT   write those outside of the lent ranges to KEPT,
                                                and say how many are inside
"""

from __future__ import annotations

import json
import sys
from array import array
from pathlib import Path


def main(frames: str, plan: str, kept: str) -> int:
    found = array("Q", Path(frames).read_bytes())
    lent = [
        (int(span["start"], 16), int(span["end"], 16))
        for span in json.loads(Path(plan).read_text())["lent"]
    ]
    outside = array("Q", (at for at in found if not any(start <= at < end for start, end in lent)))
    Path(kept).write_bytes(outside.tobytes())
    print(len(found) - len(outside))
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
