"""Runs a program under a seccomp profile in Docker's format, as a container
runtime would: under_seccomp.py PROFILE WITHOUT PROGRAM ARGUMENT...

WITHOUT is a list of calls, separated by commas, that are taken out of the
profile; it may be empty. Needs Debian's python3-seccomp.
"""

import json
import os
import sys

import seccomp

profile_path, without, program, *arguments = sys.argv[1:]
with open(profile_path, encoding="utf-8") as file:
    profile = json.load(file)

OPERATORS = {"SCMP_CMP_MASKED_EQ": seccomp.MASKED_EQ}


def action(name, error):
    if name == "SCMP_ACT_ALLOW":
        return seccomp.ALLOW
    assert name == "SCMP_ACT_ERRNO", name
    return seccomp.ERRNO(error)


default = action(profile["defaultAction"], profile["defaultErrnoRet"])
rules = seccomp.SyscallFilter(default)
for group in profile["syscalls"]:
    wanted = action(group["action"], group.get("errnoRet"))
    conditions = [
        seccomp.Arg(arg["index"], OPERATORS[arg["op"]], arg["value"], arg["valueTwo"])
        for arg in group.get("args", [])
    ]
    for name in group["names"]:
        if name in without.split(","):
            continue
        # Calls that this machine does not have are passed over.
        if seccomp.resolve_syscall(seccomp.Arch(), name) >= 0:
            rules.add_rule(wanted, name, *conditions)
rules.load()
os.execv(program, [program, *arguments])
