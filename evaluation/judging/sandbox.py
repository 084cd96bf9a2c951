"""Locks a process in, and runs a program in it: `python -I -S sandbox.py RULES PROGRAM [...]`.

RULES is JSON: the paths that may be read, the one folder that may be written, and limits. The
program then cannot access other files (Landlock, Linux 5.13 and later) or the network (its own
namespace), writes no core dumps, and dies with its parent. None of this needs root.

Restrictions that the kernel does not support are skipped and reported: the variable SANDBOX tells
the program which of `files` and `network` are blocked. The limits apply on every system that
supports them.

Source: Linux Documentation/userspace-api/landlock.rst.
"""

import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path
from typing import Any

# Where programs find their libraries.
SYSTEM_PATHS = ("/usr", "/lib", "/lib64", "/lib32", "/bin", "/etc/ld.so.cache", "/dev/urandom")

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on all architectures
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR = 1, 2, 4, 8
_N_FILE_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}  # by version of Landlock; 16 from 5 on
_RIGHTS_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE
_ALL_TCP, _SIGNALS_AND_SOCKETS = 3, 3
_CLONE_NEWUSER, _CLONE_NEWNET = 0x10000000, 0x40000000
_PR_SET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 38
_LIMITS = {"memory_bytes": resource.RLIMIT_AS, "file_bytes": resource.RLIMIT_FSIZE,
           "cpu_seconds": resource.RLIMIT_CPU, "processes": resource.RLIMIT_NPROC}  # fmt: skip

_libc = ctypes.CDLL(None, use_errno=True)


class _Ruleset(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("files", "network", "scoped")]


class _PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("rights", ctypes.c_uint64), ("descriptor", ctypes.c_int32)]


def lock_files(read: list[str], write: str) -> bool:
    """Blocks all files except those to read and the folder to write, irrevocably.

    Returns:
        Whether it worked: False on a kernel without Landlock.
    """
    if sys.platform != "linux":
        return False
    version = _libc.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), 1)  # of Landlock
    if version < 1:
        return False
    every = (1 << _N_FILE_RIGHTS.get(version, 16)) - 1
    sizes = {1: 8, 2: 8, 3: 8, 4: 16, 5: 16}  # older kernels reject unknown fields
    rules = _Ruleset(every, _ALL_TCP, _SIGNALS_AND_SOCKETS)
    size = ctypes.c_size_t(sizes.get(version, 24))
    ruleset = _libc.syscall(_CREATE_RULESET, ctypes.byref(rules), size, 0)
    if ruleset < 0:
        return False
    reading = _EXECUTE | _READ_FILE | _READ_DIR
    allowed = [*((path, reading) for path in read), (write, every)]
    for path, rights in (*allowed, ("/dev/null", _READ_FILE | _WRITE_FILE)):
        _allow(ruleset, path, rights)
    _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    done = _libc.syscall(_RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return done


def _allow(ruleset: int, path: str, rights: int) -> None:
    """Allows everything beneath a path; a missing path needs no rule."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    rights &= -1 if Path(path).is_dir() else _RIGHTS_OF_FILES
    rule = _PathBeneath(rights, descriptor)
    failed = _libc.syscall(_ADD_RULE, ruleset, 1, ctypes.byref(rule), 0)
    os.close(descriptor)
    if failed:
        raise OSError(ctypes.get_errno(), f"Landlock refuses the rule for {path}")


def leave_network() -> bool:
    """Moves into a new, empty network namespace; returns False if that is not permitted."""
    user, group = os.geteuid(), os.getegid()
    if sys.platform != "linux" or _libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET):
        return False
    # Not as user 0 of the new namespace, so that the program has no privileges in it.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"65534 {user} 1")
    Path("/proc/self/gid_map").write_text(f"65534 {group} 1")
    return True


def set_limits(rules: dict[str, Any]) -> None:
    """Sets the limits of `_LIMITS` that the rules name."""
    limits = {resource.RLIMIT_CORE: 0, resource.RLIMIT_NOFILE: 256}
    limits |= {limit: rules[name] for name, limit in _LIMITS.items() if name in rules}
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))


def main() -> None:
    """Locks this process in and becomes the program."""
    rules, program = json.loads(sys.argv[1]), sys.argv[2:]
    state = {"network": leave_network() if rules.get("leave_network") else None}
    state["files"] = lock_files(rules["read"], rules["write"])
    os.environ["SANDBOX"] = json.dumps(state)
    set_limits(rules)
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    os.execv(program[0], program)


if __name__ == "__main__":
    main()
