#!/usr/bin/python
"""Facts about the crash dump of a machine."""

from __future__ import annotations

DOCUMENTATION = r"""
module: crash_dump_facts
short_description: Gather whether a panic now would leave a crash dump, and which dumps are there
description:
  - Runs C(pykexec status) and C(pykexec saved), and returns their JSON documents as facts.
  - Facts are null without pykexec, or without the privilege to verify what is armed.
options:
  executable:
    description: The program, by its name or path.
    type: str
    default: pykexec
author:
  - The pykexec developers
attributes:
  check_mode:
    support: full
    description: It changes nothing.
"""

EXAMPLES = r"""
- name: Gather facts about the crash dump
  pykexec.pykexec.crash_dump_facts:

- name: Fail on machines that are not armed
  ansible.builtin.assert:
    that: ansible_facts.pykexec.armed
"""

RETURN = r"""
ansible_facts:
  description: Facts to add to those of the machine.
  returned: always
  type: dict
  contains:
    pykexec:
      description: What is known about the crash dump.
      type: dict
      returned: always
      contains:
        installed:
          description: Whether the program was found.
          type: bool
          returned: always
        version:
          description: What C(pykexec --version) prints.
          type: str
          returned: always
        armed:
          description:
            - Whether a panic now would start a capture kernel.
            - Null if it is unknown, as without pykexec.
          type: bool
          returned: always
        problem:
          description: What a verification found, or null.
          type: str
          returned: always
        status:
          description: The document C(pykexec.status/1), see C(pykexec status --json).
          type: dict
          returned: always
        saved:
          description: The document C(pykexec.saved-dumps/1), see C(pykexec saved --json).
          type: dict
          returned: always
"""

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pykexec.pykexec.plugins.module_utils.program import document

STATES = {"loaded": True, "not loaded": False}
NOTHING = {
    "installed": False,
    "version": None,
    "armed": None,
    "problem": None,
    "status": None,
    "saved": None,
}


def gather(module):
    """The facts of a machine that has pykexec."""
    status = document(module, ["status", "--backend", "kernel"])
    staged = status["staged"] or {}
    problem = staged.get("problem")
    version = module.run_command([module.params["executable"], "--version"])[1]
    loaded = STATES.get(status["crash"])
    return {
        "installed": True,
        "version": version.strip().split()[-1] if version.strip() else None,
        "armed": loaded and not problem,
        "problem": problem,
        "status": status,
        "saved": document(module, ["saved"]),
    }


def main():
    module = AnsibleModule({"executable": {"default": "pykexec"}}, supports_check_mode=True)
    executable = module.params["executable"]
    there = shutil.which(executable, path=os.environ.get("PATH", "") + ":/usr/local/bin:/usr/bin")
    if there:
        module.params["executable"] = there
    facts = gather(module) if there else NOTHING
    module.exit_json(changed=False, ansible_facts={"pykexec": facts})


if __name__ == "__main__":
    main()
