"""python -m tests.fuzz.one TARGET [ARGUMENTS OF LIBFUZZER]: run one target under atheris, until
libFuzzer ends the process."""

from __future__ import annotations

import json
import random
import sys

import atheris

from tests.fuzz.json_places import VALUES, places

with atheris.instrument_imports(include=["pykexec"]):
    from tests.fuzz.targets import TARGETS, survive


def mutated(data: bytes, longest: int, seed: int) -> bytes:
    """A JSON document mostly stays valid, with another value somewhere; libFuzzer mutates anything
    else."""
    rng = random.Random(seed)
    if data.startswith(b"{") and rng.random() < 0.8:
        try:
            document = json.loads(data)
        except (ValueError, RecursionError):
            document = None
        if document:
            rng.choice(places(document)).replace(rng.choice(VALUES))
            changed = json.dumps(document).encode()
            if len(changed) <= longest:
                return changed
    found: bytes = atheris.Mutate(data, longest)
    return found


def main() -> None:
    name, *arguments = sys.argv[1:]
    atheris.Setup(
        [sys.argv[0], *arguments],
        lambda data: survive(TARGETS[name], data),
        custom_mutator=mutated,
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
