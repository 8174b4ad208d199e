"""A separate program: finds the files that this Python needs to import some modules.

imported.py JSON-OF-SYS.PATH MODULE...     prints {name: file} as JSON, with "" for a built-in one
"""

from __future__ import annotations

import importlib
import json
import sys


def main(path: str, *names: str) -> None:
    sys.path[:] = json.loads(path)
    for name in names:
        importlib.import_module(name)
    files = dict.fromkeys(sys.builtin_module_names, "")
    for name, module in sys.modules.items():
        spec, file = getattr(module, "__spec__", None), getattr(module, "__file__", None)
        if spec and file and spec.name == name:  # otherwise it is an alias of another module
            files[name] = file
    print(json.dumps(files))


if __name__ == "__main__":
    main(*sys.argv[1:])
