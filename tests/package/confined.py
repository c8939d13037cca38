"""Runs a unit's command as systemd would: confined.py UNIT. No systemd runs in the private root.

In effect are: user and group, the environment, umask, limits of files, no new privileges, no capabilities, the file system
(read-only but for the state directory, empty /home and /tmp), no writable and executable memory, and the filter of system
calls. Not in effect: what needs a cgroup, devices, namespaces of users, and the filters by a call's arguments.
"""
import ctypes
import errno
import os
import pwd
import resource
import subprocess
import sys

import seccomp
from unit_file import Unit

PR_SET_NO_NEW_PRIVS, PR_CAPBSET_DROP, PR_SET_MDWE, PR_CAP_AMBIENT = 38, 24, 65, 47
LAST_CAPABILITY = 63
libc = ctypes.CDLL(None, use_errno=True)


def prctl(*arguments, may_lack=False):
    padded = [*arguments, 0, 0, 0, 0][:5]
    if libc.prctl(*(ctypes.c_ulong(a) for a in padded)) != 0 and not (may_lack and ctypes.get_errno() == errno.EINVAL):
        raise OSError(ctypes.get_errno(), f"prctl{tuple(arguments)}")


def confine_files(unit):
    """In a mount namespace of its own; needs to be root."""
    os.unshare(os.CLONE_NEWNS)
    state = f"/var/lib/{unit['StateDirectory']}"

    def mount(*arguments):
        subprocess.run(["mount", *arguments], check=True)
    mount("--make-rprivate", "/")
    mount("--bind", state, state)
    mount("-o", "remount,bind,ro=recursive", "/")
    mount("-o", "remount,bind,rw", state)
    for folder in ("/home", "/tmp", "/var/tmp"):
        mount("-t", "tmpfs", "-o", "mode=1777", "tmpfs", folder)


def become(user):
    for capability in range(LAST_CAPABILITY + 1):
        prctl(PR_CAPBSET_DROP, capability, may_lack=True)
    account = pwd.getpwnam(user)
    os.setgroups([])
    os.setresgid(*[account.pw_gid] * 3)
    os.setresuid(*[account.pw_uid] * 3)  # which clears all capabilities
    return account


def filter_calls(unit):
    rules = seccomp.SyscallFilter(defaction=seccomp.ERRNO(getattr(errno, unit["SystemCallErrorNumber"])))
    for name in unit.system_calls():
        try:
            rules.add_rule(seccomp.ALLOW, name)
        except RuntimeError:
            pass  # another architecture's
    rules.load()


def main():
    unit = Unit(sys.argv[1])
    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", **unit.environment()}
    for name in ("NOTIFY_SOCKET", "OMP_WAIT_POLICY"):
        if name in os.environ:
            environment[name] = os.environ[name]
    os.chdir("/")
    confine_files(unit)
    os.umask(int(unit["UMask"], 8))
    files = min(int(unit["LimitNOFILE"]), resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (files, files))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    account = become(unit["User"])
    environment |= {"HOME": account.pw_dir, "USER": unit["User"], "LOGNAME": unit["User"]}
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    command = unit.command()
    if unit["MemoryDenyWriteExecute"] == "yes":
        prctl(PR_SET_MDWE, 1, may_lack=True)
    filter_calls(unit)
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
