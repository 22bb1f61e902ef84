"""Closing a process off on Linux: limits, no privileges, a Landlock ruleset, a seccomp filter."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import resource
import signal
import sysconfig

__all__ = ["FORBIDDEN", "PROCESS", "READABLE", "UnsupportedError", "enclose", "landlock_version", "reason_of"]

SOCKET = "tried to open a socket"
PROCESS = "tried to start a process"
OTHERS = "tried to reach another process"
FORBIDDEN = "made a system call that is forbidden"


def _numbers(table: str) -> dict[str, tuple[int, int]]:
    """System calls by name, each with its numbers on x86_64 and aarch64 (-1: does not exist)."""
    words = table.split()
    return {
        name: (int(x86_64), int(aarch64))
        for name, x86_64, aarch64 in zip(words[::3], words[1::3], words[2::3], strict=True)
    }


# These calls end the program, with this reason.
_ENDS = {
    SOCKET: _numbers("connect 42 203  bind 49 200  listen 50 201  accept 43 202  accept4 288 242"),
    PROCESS: _numbers("fork 57 -1  vfork 58 -1  execve 59 221  execveat 322 281"),
    OTHERS: _numbers("""
        ptrace 101 117  process_vm_readv 310 270  process_vm_writev 311 271  process_madvise 440 440  kcmp 312 272
        pidfd_open 434 434  pidfd_getfd 438 438  pidfd_send_signal 424 424
    """),
    FORBIDDEN: _numbers("""
        mount 165 40  umount2 166 39  pivot_root 155 41  chroot 161 51  move_mount 429 429  open_tree 428 428
        fsopen 430 430  fsconfig 431 431  fsmount 432 432  fspick 433 433  mount_setattr 442 442  unshare 272 97
        setns 308 268  bpf 321 280  perf_event_open 298 241  keyctl 250 219  add_key 248 217  request_key 249 218
        init_module 175 105  finit_module 313 273  delete_module 176 106  kexec_load 246 104
        kexec_file_load 320 294  reboot 169 142  swapon 167 224  swapoff 168 225  sethostname 170 161
        setdomainname 171 162  settimeofday 164 170  clock_settime 227 112  clock_adjtime 305 266  adjtimex 159 171
        acct 163 89  quotactl 179 60  quotactl_fd 443 443  syslog 103 116  ioperm 173 -1  iopl 172 -1
        modify_ldt 154 -1  userfaultfd 323 282  fanotify_init 300 262  name_to_handle_at 303 264
        open_by_handle_at 304 265  shmget 29 194  shmat 30 196  shmctl 31 195  semget 64 190  semop 65 193
        semctl 66 191  msgget 68 186  msgsnd 69 189  msgrcv 70 188  msgctl 71 187  mq_open 240 180
        mq_unlink 241 181  vhangup 153 58  setuid 105 146  setgid 106 144  setreuid 113 145  setregid 114 143
        setresuid 117 147  setresgid 119 149  setfsuid 122 151  setfsgid 123 152  setgroups 116 159  capset 126 91
        seccomp 317 277  uselib 134 -1  nfsservctl 180 42  lookup_dcookie 212 18  process_mrelease 448 448
    """),
}
# These only fail: libraries that try them have alternatives. Numbers above `_LAST_KNOWN` fail, too.
_FAILS = {
    errno.ENOSYS: _numbers("""
        clone3 435 435  io_uring_setup 425 425  io_uring_enter 426 426  io_uring_register 427 427  openat2 437 437
        memfd_create 319 279  memfd_secret 447 447  inotify_init 253 -1  inotify_init1 294 26  io_setup 206 0
    """),
    errno.EPERM: _numbers("""
        setpriority 141 140  sched_setscheduler 144 119  sched_setparam 142 118  sched_setaffinity 203 122
        sched_setattr 314 274  ioprio_set 251 30  migrate_pages 256 238  move_pages 279 239
    """),
    # Landlock does not guard these: nothing is done, and success is returned, so that copying a file still works.
    0: _numbers("""
        chmod 90 -1  fchmod 91 52  fchmodat 268 53  chown 92 -1  fchown 93 55  lchown 94 -1  fchownat 260 54
        utime 132 -1  utimes 235 -1  utimensat 280 88  futimesat 261 -1  setxattr 188 5  lsetxattr 189 6
        fsetxattr 190 7  removexattr 197 14  lremovexattr 198 15  fremovexattr 199 16  sync 162 81  syncfs 306 267
    """),
}
_LAST_KNOWN = 450

_MACHINES = {"x86_64": (0, 0xC000003E), "aarch64": (1, 0xC00000B7)}
_BY_ARGUMENT = _numbers("""
    clone 56 220  kill 62 129  tkill 200 130  tgkill 234 131  rt_sigqueueinfo 129 138  rt_tgsigqueueinfo 297 240
    prlimit64 302 261  prctl 157 167  fcntl 72 25  ioctl 16 29  socket 41 198  socketpair 53 199  truncate 76 45
    open 2 -1  openat 257 56
""")

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
"""The paths that a program may read outside its folder: Python, shared libraries, time zones."""

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long


class UnsupportedError(Exception):
    """This system cannot close a process off; the message names the missing part."""


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
    """The reason for ending a program that made the forbidden system call of this number."""
    column = _MACHINES[platform.machine()][0]
    for reason, calls in _ENDS.items():
        if any(call[column] == number for call in calls.values()):
            return reason
    known = {"clone": PROCESS, "socket": SOCKET, "socketpair": SOCKET}
    name = next((name for name, call in _BY_ARGUMENT.items() if call[column] == number), "")
    # The others send signals.
    return known.get(name, OTHERS if name else FORBIDDEN)


def _own_number(name: str) -> int:
    """The number of a call that only we may make, on this machine."""
    return _ENDS[FORBIDDEN][name][_MACHINES[platform.machine()][0]]


def _drop_capabilities() -> None:
    """Drop root's powers; other users have none. Version 3 of the interface, this process, no capability."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    _check(_libc.syscall(_own_number("capset"), header, (ctypes.c_uint32 * 6)()), "capset")


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
        result: int = _libc.syscall(_own_number("seccomp"), 1, flags, ctypes.byref(program))
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
        for call in calls.values():
            when(call, forbid)
    for number, calls in _FAILS.items():
        for call in calls.values():
            when(call, _ERRNO | number)
    return [*code, allow]


def _check(result: int, what: str) -> int:
    if result < 0:
        raise UnsupportedError(f"{what} does not work here ({os.strerror(ctypes.get_errno())})")
    return result
