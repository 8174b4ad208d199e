#!/usr/bin/python
"""Arms a machine for a crash dump, or undoes that."""

from __future__ import annotations

DOCUMENTATION = r"""
module: crash_dump
short_description: Set a machine up to be armed for a crash dump at boot, or undo that
description:
  - Runs C(pykexec setup), which records how to undo each step before it takes it.
  - If it was interrupted, the next run completes it.
options:
  state:
    description:
      - V(present) sets the machine up, and arms it at once if that takes no reboot.
      - V(absent) restores every file and setting that was changed.
    type: str
    choices: [present, absent]
    default: present
  panic_sysctls:
    description:
      - Also make oopses and, on x86, unknown NMIs panic, and the machine reboot after a panic.
    type: bool
    default: false
  executable:
    description: The program, by its name or path.
    type: str
    default: pykexec
author:
  - The pykexec developers
attributes:
  check_mode:
    support: full
    description: It runs C(pykexec setup --check).
  diff_mode:
    support: full
    description: It shows the differences of all files.
"""

EXAMPLES = r"""
- name: Arm the machine
  pykexec.pykexec.crash_dump:

- name: Undo everything
  pykexec.pykexec.crash_dump:
    state: absent
"""

RETURN = r"""
setup:
  description: The document C(pykexec.setup/1), see C(pykexec setup --json).
  returned: success
  type: dict
reboot_required:
  description: Whether the machine is armed only after a reboot.
  returned: success
  type: bool
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.pykexec.pykexec.plugins.module_utils.program import document


def words(params):
    """The arguments, without those that decide whether anything is changed."""
    if params["state"] == "absent":
        return ["setup", "--undo"]
    return ["setup", *(["--panic-sysctls"] if params["panic_sysctls"] else [])]


def differences(found):
    """For --diff: one item for each file."""
    files = [file for step in found["steps"] for file in step["files"]]
    return [{"prepared": file["diff"] or f"{file['path']}: {file['action']}\n"} for file in files]


def problems(found):
    return [f"{step['name']}: {step['problem']}" for step in found["steps"] if step["problem"]]


def main():
    module = AnsibleModule(
        {
            "state": {"choices": ["present", "absent"], "default": "present"},
            "panic_sysctls": {"type": "bool", "default": False},
            "executable": {"default": "pykexec"},
        },
        supports_check_mode=True,
    )
    wanted = words(module.params)
    before = document(module, [*wanted, "--check"])
    changed = before["changes"] > 0
    after = before
    if changed and not module.check_mode:
        after = document(module, [*wanted, "--yes"])
    left = problems(after)
    result = {
        "changed": changed,
        "diff": differences(before),
        "setup": after,
        "reboot_required": after["reboot"],
    }
    if left and not module.check_mode:
        module.fail_json(msg="; ".join(left), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
