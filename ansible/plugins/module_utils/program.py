"""Runs pykexec and reads its JSON documents."""

from __future__ import annotations

import json

FAILED_CHECK = 3
"""The exit status of a check that found something: not an error."""


def document(module, words):
    """The JSON document that `pykexec WORDS --json` prints. Ends the module with its error."""
    command = [module.params["executable"], *words, "--json"]
    status, out, err = module.run_command(command, handle_exceptions=False)
    try:
        found = json.loads(out)
    except ValueError:
        module.fail_json(msg=f"{' '.join(command)}: {(err or out).strip()}", rc=status)
    if "error" in found:
        error = found["error"]
        hint = f" ({error['hint']})" if error.get("hint") else ""
        module.fail_json(msg=error["message"] + hint, code=error["code"], rc=status)
    if status not in (0, FAILED_CHECK):
        module.fail_json(msg=f"{' '.join(command)}: exit status {status}", rc=status)
    return found
