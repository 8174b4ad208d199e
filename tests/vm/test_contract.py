"""The contract suite on a real kernel: the same rows, the same errnos."""

from __future__ import annotations

import importlib
import warnings
from pathlib import Path

from .debian import Unavailable
from .lab import VM
from .product import site, text
from .region_module import region_files

CONTRACT = Path(__file__).parents[1] / "contract"
PYTEST = ("pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments")
SCRIPT = """
    cd /site
    export PYKEXEC_CONTRACT=kernel
    python3 -m pytest -q -p no:cacheprovider -W ignore /site/tests/contract > /out/pytest.txt \\
        2>&1 || echo $? > /out/failed
    copyout /out
"""


def test_a_real_kernel_answers_as_the_simulated_one(vm: VM) -> None:
    files = {f"/site/tests/contract/{path.name}": path for path in CONTRACT.glob("*.py")}
    try:
        module = region_files(vm.kernel)
    except Unavailable as unavailable:
        warnings.warn(f"crash regions are not asked for: {unavailable.reason}", stacklevel=1)
        module = {}
    needed = [Path(str(importlib.import_module(name).__file__)).parent for name in PYTEST]
    result = vm.run(
        SCRIPT,
        append="" if module else "crashkernel=4M",
        mem_mib=1024,
        python=True,
        site=[*site(), *needed],
        files={
            **files,
            **module,
            "/site/tests/__init__.py": b"",
            "/site/py.py": Path(str(importlib.import_module("py").__file__)),
        },
        timeout_s=400,
    ).expect(0)
    output = text(result, "first/pytest.txt")
    assert not (result.files / "first/failed").exists(), output
    assert " passed" in output
    assert " skipped" in output, "what a real kernel cannot be asked"
