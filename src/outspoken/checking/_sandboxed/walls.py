"""Closing a process off on Linux: limits, no privileges, a Landlock ruleset, a seccomp filter."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import sysconfig
from collections.abc import Iterable, Mapping

__all__ = ["FORBIDDEN", "PROCESS", "READABLE", "UnsupportedError", "enclose", "landlock_version", "reason_of"]

SOCKET = "tried to open a socket"
PROCESS = "tried to start a process"
OTHERS = "tried to reach another process"
FORBIDDEN = "made a system call that is forbidden"

# Numbers on x86_64 and aarch64 (-1: does not exist). These calls end the program, with this reason.
_ENDS: Mapping[str, Iterable[tuple[int, int]]] = {
    SOCKET: ((42, 203), (49, 200), (50, 201), (43, 202), (288, 242)),  # connect bind listen accept accept4
    PROCESS: ((57, -1), (58, -1), (59, 221), (322, 281)),  # fork vfork execve execveat
    # ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_open pidfd_getfd pidfd_send_signal
    OTHERS: ((101, 117), (310, 270), (311, 271), (440, 440), (312, 272), (434, 434), (438, 438), (424, 424)),
    FORBIDDEN: (
        # mount umount2 pivot_root chroot move_mount open_tree fsopen fsconfig fsmount fspick mount_setattr
        *((165, 40), (166, 39), (155, 41), (161, 51), (429, 429), (428, 428), (430, 430), (431, 431), (432, 432)),
        *((433, 433), (442, 442)),
        # unshare setns bpf perf_event_open keyctl add_key request_key init_module finit_module delete_module
        *((272, 97), (308, 268), (321, 280), (298, 241), (250, 219), (248, 217), (249, 218), (175, 105)),
        *((313, 273), (176, 106)),
        # kexec_load kexec_file_load reboot swapon swapoff sethostname setdomainname settimeofday clock_settime
        *((246, 104), (320, 294), (169, 142), (167, 224), (168, 225), (170, 161), (171, 162), (164, 170)),
        *((227, 112),),
        # clock_adjtime adjtimex acct quotactl quotactl_fd syslog ioperm iopl modify_ldt userfaultfd fanotify_init
        *((305, 266), (159, 171), (163, 89), (179, 60), (443, 443), (103, 116), (173, -1), (172, -1), (154, -1)),
        *((323, 282), (300, 262)),
        # name_to_handle_at open_by_handle_at shmget shmat shmctl semget semop semctl msgget msgsnd msgrcv msgctl
        *((303, 264), (304, 265), (29, 194), (30, 196), (31, 195), (64, 190), (65, 193), (66, 191), (68, 186)),
        *((69, 189), (70, 188), (71, 187)),
        # mq_open mq_unlink vhangup setuid setgid setreuid setregid setresuid setresgid setfsuid setfsgid setgroups
        *((240, 180), (241, 181), (153, 58), (105, 146), (106, 144), (113, 145), (114, 143), (117, 147)),
        *((119, 149), (122, 151), (123, 152), (116, 159)),
        # capset seccomp uselib nfsservctl lookup_dcookie process_mrelease
        *((126, 91), (317, 277), (134, -1), (180, 42), (212, 18), (448, 448)),
    ),
}
# These only fail: libraries try them and have alternatives. `_LAST_KNOWN` is the last number that is known.
_FAILS: Mapping[int, Iterable[tuple[int, int]]] = {
    # clone3 io_uring_setup io_uring_enter io_uring_register openat2 memfd_create memfd_secret inotify_init
    # inotify_init1 io_setup
    errno.ENOSYS: (
        *((435, 435), (425, 425), (426, 426), (427, 427), (437, 437), (319, 279), (447, 447), (253, -1)),
        *((294, 26), (206, 0)),
    ),
    # setpriority sched_setscheduler sched_setparam sched_setaffinity sched_setattr ioprio_set migrate_pages
    # move_pages
    errno.EPERM: ((141, 140), (144, 119), (142, 118), (203, 122), (314, 274), (251, 30), (256, 238), (279, 239)),
    # Landlock does not guard these. chmod fchmod fchmodat chown fchown lchown fchownat utime utimes utimensat
    # futimesat setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr sync syncfs: nothing is done,
    # and success is returned, so that copying a file still works.
    0: (
        *((90, -1), (91, 52), (268, 53), (92, -1), (93, 55), (94, -1), (260, 54), (132, -1), (235, -1), (280, 88)),
        *((261, -1), (188, 5), (189, 6), (190, 7), (197, 14), (198, 15), (199, 16), (162, 81), (306, 267)),
    ),
}
_LAST_KNOWN = 450

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_BY_ARGUMENT = {
    "clone": (56, 220),
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
    "prlimit64": (302, 261),
    "prctl": (157, 167),
    "fcntl": (72, 25),
    "ioctl": (16, 29),
    "socket": (41, 198),
    "socketpair": (53, 199),
    "truncate": (76, 45),
    "open": (2, -1),
    "openat": (257, 56),
}
_SECCOMP = {"x86_64": 317, "aarch64": 277}
_CAPSET = {"x86_64": 126, "aarch64": 91}

_LOAD, _EQUAL, _ABOVE, _ANY, _AND, _RETURN = 0x20, 0x15, 0x25, 0x45, 0x54, 0x06
_ALLOW, _ERRNO, _NOTIFY, _KILL = 0x7FFF0000, 0x00050000, 0x7FC00000, 0x80000000
_NUMBER, _ARCHITECTURE = 0, 4
_CLONE_THREAD, _AF_UNIX, _SOCK_STREAM, _NEW_LISTENER = 0x10000, 1, 1, 8
_NO_NEW_PRIVILEGES, _PARENT_DEATH_SIGNAL = 38, 1

_READ_FILE, _READ_FOLDER = 1 << 2, 1 << 3
_NOT_IN_OWN = 1 << 0 | 1 << 6 | 1 << 9 | 1 << 11 | 1 << 15  # execute, devices, sockets, ioctl of devices
_OF_FILES = 1 << 1 | 1 << 2 | 1 << 14
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}
_RULESET, _RULE, _RESTRICT = 444, 445, 446

READABLE = (
    *("/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/nix/store", "/gnu/store"),
    *("/usr/share/zoneinfo", "/etc/localtime", "/etc/ld.so.cache", "/etc/mime.types"),
    *("/dev/null", "/dev/zero", "/dev/urandom", "/dev/random"),
    *(sysconfig.get_path(name) for name in ("stdlib", "platstdlib")),
    *filter(None, (sysconfig.get_config_var("LIBDIR"), sysconfig.get_config_var("DESTSHARED"))),
)
"""What a program may read outside its folder: Python, shared libraries, time zones."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class UnsupportedError(Exception):
    """This system cannot close a process off; the message says what is missing."""


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_uint16), ("yes", ctypes.c_uint8), ("no", ctypes.c_uint8), ("k", ctypes.c_uint32))


class _Filter(ctypes.Structure):
    _fields_ = (("length", ctypes.c_uint16), ("instructions", ctypes.POINTER(_Instruction)))


class _Ruleset(ctypes.Structure):
    _fields_ = (("files", ctypes.c_uint64), ("network", ctypes.c_uint64), ("scoped", ctypes.c_uint64))


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def landlock_version() -> int:
    """The version of Landlock's interface. Raises `UnsupportedError` if the system has none."""
    if platform.machine() not in _MACHINES:
        raise UnsupportedError(f"no filter of system calls is written for {platform.machine()}")
    version: int = _libc.syscall(_RULESET, None, ctypes.c_size_t(0), 1)
    if version < 1:
        raise UnsupportedError(
            f"Linux 5.13 with Landlock switched on is needed ({os.strerror(ctypes.get_errno())})"
        )
    return version


def enclose(folder: str, version: int, *, memory: int, seconds: float, largest: int) -> int | None:
    """Close this process off permanently. Only `folder` is writable, and no file may exceed `largest` bytes.

    Returns a descriptor from which the parent reads which system call was forbidden, or None if the system has no
    such notification: then a forbidden call kills with SIGSYS. Raises `UnsupportedError` or `OSError`.
    """
    _libc.prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL, 0, 0, 0)
    _check(_libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0), "no_new_privs")
    with open("/proc/self/statm") as file:
        own = int(file.read().split()[0]) * resource.getpagesize()
    _drop_capabilities()
    _restrict_files(folder, version)
    limits = {
        resource.RLIMIT_AS: own + memory,
        resource.RLIMIT_CPU: int(seconds) + 2,
        resource.RLIMIT_FSIZE: largest,
        resource.RLIMIT_NOFILE: 64,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
    }
    for limit, value in limits.items():
        hard = resource.getrlimit(limit)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(limit, (value, value))
    return _filter_calls(version)


def reason_of(number: int) -> str:
    """What a program tried with the forbidden system call of this number."""
    column = _MACHINES[platform.machine()][0]
    for reason, calls in _ENDS.items():
        if any(call[column] == number for call in calls):
            return reason
    known = {"clone": PROCESS, "socket": SOCKET, "socketpair": SOCKET}
    name = next((name for name, call in _BY_ARGUMENT.items() if call[column] == number), "")
    # The others send signals.
    return known.get(name, OTHERS if name else FORBIDDEN)


def _drop_capabilities() -> None:
    """Drop root's powers; other users have none. Version 3 of the interface, this process, no capability."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _check(_libc.syscall(_CAPSET[platform.machine()], header, (ctypes.c_uint32 * 6)()), "capset")


def _restrict_files(folder: str, version: int) -> None:
    everything = (1 << _RIGHTS.get(version, 16)) - 1
    attributes = _Ruleset(everything, 3, 3)
    size = 8 if version < 4 else 16 if version < 6 else 24
    ruleset = _check(_libc.syscall(_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0), "Landlock")
    allowed = dict.fromkeys(READABLE, _READ_FILE | _READ_FOLDER)
    allowed |= {"/dev/null": _OF_FILES, folder: everything & ~_NOT_IN_OWN}
    for path, rights in allowed.items():
        try:
            handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        if not os.path.isdir(path):
            rights &= _OF_FILES
        rule = _Beneath(rights & everything, handle)
        _check(_libc.syscall(_RULE, ruleset, 1, ctypes.byref(rule), 0), "Landlock")
        os.close(handle)
    _check(_libc.syscall(_RESTRICT, ruleset, 0), "Landlock")
    os.close(ruleset)


def _filter_calls(version: int) -> int | None:
    for forbid, flags in ((_NOTIFY, _NEW_LISTENER), (_KILL, 0)):
        code = [_Instruction(*each) for each in _program(version, forbid)]
        instructions = (_Instruction * len(code))(*code)
        program = _Filter(len(code), instructions)
        result: int = _libc.syscall(_SECCOMP[platform.machine()], 1, flags, ctypes.byref(program))
        if result >= 0:
            return result if flags else None
    raise UnsupportedError(f"seccomp does not work here ({os.strerror(ctypes.get_errno())})")


def _program(version: int, forbid: int) -> list[tuple[int, int, int, int]]:
    """The filter in BPF. The tested arguments fit into 32 bits, as the kernel reads them."""
    column, architecture = _MACHINES[platform.machine()]
    code = [(_LOAD, 0, 0, _ARCHITECTURE), (_EQUAL, 1, 0, architecture), (_RETURN, 0, 0, _KILL)]
    code += [(_LOAD, 0, 0, _NUMBER), (_ABOVE, 0, 1, _LAST_KNOWN), (_RETURN, 0, 0, _ERRNO | errno.ENOSYS)]

    def when(call: tuple[int, int], action: int) -> None:
        if call[column] >= 0:
            code.extend([(_EQUAL, 0, 1, call[column]), (_RETURN, 0, 0, action)])

    def judge(name: str, *test: tuple[int, int, int, int]) -> None:
        """`test` examines an argument and ends with two returns: for a forbidden call, and for an allowed one."""
        if (number := _BY_ARGUMENT[name][column]) >= 0:
            code.extend([(_EQUAL, 0, len(test), number), *test])

    def argument(at: int) -> tuple[int, int, int, int]:
        return (_LOAD, 0, 0, 16 + 8 * at)

    allow, deny = (_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, forbid)
    refuse, silent = (_RETURN, 0, 0, _ERRNO | errno.EPERM), (_RETURN, 0, 0, _ERRNO | errno.EACCES)
    own = os.getpid()
    judge("clone", argument(0), (_ANY, 1, 0, _CLONE_THREAD), deny, allow)
    for name in ("kill", "tkill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"):
        judge(name, argument(0), (_EQUAL, 1, 0, own), deny, allow)
    judge("prlimit64", argument(0), (_EQUAL, 2, 0, 0), (_EQUAL, 1, 0, own), refuse, allow)
    judge("prctl", argument(0), (_EQUAL, 2, 0, 15), (_EQUAL, 1, 0, 16), refuse, allow)  # only the thread's name
    # F_SETOWN, F_SETOWN_EX, FIOSETOWN, SIOCSPGRP: by these a descriptor sends its signals to another process.
    judge("fcntl", argument(1), (_EQUAL, 1, 0, 8), (_EQUAL, 0, 1, 15), deny, allow)
    judge("ioctl", argument(1), (_EQUAL, 1, 0, 0x8901), (_EQUAL, 0, 1, 0x8902), deny, allow)
    # The C library looks for a name service by a Unix socket; the error means that there is none.
    judge("socket", argument(0), (_EQUAL, 1, 0, _AF_UNIX), deny, silent)
    pair = (argument(0), (_EQUAL, 0, 3, _AF_UNIX), argument(1), (_AND, 0, 0, 0xF), (_EQUAL, 1, 0, _SOCK_STREAM))
    judge("socketpair", *pair, deny, allow)
    if version < 3:
        # These versions of Landlock do not guard against truncating a file.
        judge("truncate", refuse)
        for name, at in (("open", 1), ("openat", 2)):
            flags = os.O_TRUNC | os.O_ACCMODE
            judge(name, argument(at), (_AND, 0, 0, flags), (_EQUAL, 0, 1, os.O_TRUNC), refuse, allow)
    for calls in _ENDS.values():
        for call in calls:
            when(call, forbid)
    for number, calls in _FAILS.items():
        for call in calls:
            when(call, _ERRNO | number)
    return [*code, allow]


def _check(result: int, what: str) -> int:
    if result < 0:
        raise UnsupportedError(f"{what} does not work here ({os.strerror(ctypes.get_errno())})")
    return result
