"""Numbers of system calls, and the meaning of their arguments, on x86_64 and aarch64 Linux.

Numbers never change once a kernel was released with them; those above 423 are the same on all machines.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from functools import cache

# name:x86_64:aarch64, from the kernel's asm/unistd_64.h and asm-generic/unistd.h
_TABLE = """
    read:0:63 write:1:64 pread64:17:67 pwrite64:18:68 readv:19:65 writev:20:66 preadv:295:69 pwritev:296:70
    preadv2:327:286 pwritev2:328:287 sendfile:40:71 splice:275:76 copy_file_range:326:285
    open:2:- openat:257:56 openat2:437:437 creat:85:- close:3:57 lseek:8:62 fsync:74:82 fdatasync:75:83 sync:162:81
    syncfs:306:267 sync_file_range:277:84 truncate:76:45 ftruncate:77:46 fallocate:285:47 flock:73:32
    rename:82:- renameat:264:38 renameat2:316:276 unlink:87:- unlinkat:263:35 rmdir:84:- mkdir:83:- mkdirat:258:34
    link:86:- linkat:265:37 symlink:88:- symlinkat:266:36 readlink:89:- readlinkat:267:78
    chmod:90:- fchmod:91:52 fchmodat:268:53 chown:92:- fchown:93:55 fchownat:260:54 utimensat:280:88 stat:4:-
    fstat:5:80 lstat:6:- newfstatat:262:79 statx:332:291 access:21:- faccessat:269:48 faccessat2:439:439
    statfs:137:43 fstatfs:138:44 getdents:78:- getdents64:217:61 getcwd:79:17 chdir:80:49 fchdir:81:50 mknod:133:-
    mknodat:259:33 fcntl:72:25 ioctl:16:29 dup:32:23 dup2:33:- dup3:292:24 pipe:22:- pipe2:293:59
    memfd_create:319:279
    socket:41:198 socketpair:53:199 connect:42:203 bind:49:200 listen:50:201 accept:43:202 accept4:288:242
    sendto:44:206 recvfrom:45:207 sendmsg:46:211 recvmsg:47:212 sendmmsg:307:269 recvmmsg:299:243 shutdown:48:210
    getsockopt:55:209 setsockopt:54:208 getsockname:51:204 getpeername:52:205 poll:7:- ppoll:271:73 select:23:-
    pselect6:270:72 epoll_create1:291:20 epoll_ctl:233:21 epoll_wait:232:- epoll_pwait:281:22 eventfd2:290:19
    nanosleep:35:101 clock_nanosleep:230:115 fork:57:- vfork:58:- clone:56:220 clone3:435:435 execve:59:221
    execveat:322:281 wait4:61:260 waitid:247:95 kill:62:129 setsid:112:157 prlimit64:302:261
    sched_setaffinity:203:122
    getrandom:318:278 getppid:110:173 shmget:29:194 shmat:30:196 semget:64:190 mlock:149:228 io_setup:206:0
    io_submit:209:2 io_uring_setup:425:425 inotify_init1:294:26 inotify_add_watch:254:27
"""
_NUMBERS = {name: (x86, arm) for name, x86, arm in (word.split(":") for word in _TABLE.split())}
NAMES = tuple(_NUMBERS)
"""All names that exist on at least one of the machines."""

_TAKE_FD_FIRST = """
    read write pread64 pwrite64 readv writev preadv pwritev preadv2 pwritev2 sendfile splice copy_file_range close lseek
    fsync fdatasync syncfs sync_file_range ftruncate fallocate flock fchmod fchown fstat fstatfs getdents getdents64
    fchdir fcntl ioctl dup dup2 dup3 connect bind listen accept accept4 sendto recvfrom sendmsg recvmsg sendmmsg
    recvmmsg shutdown getsockopt setsockopt getsockname getpeername epoll_ctl epoll_wait epoll_pwait
"""
_TAKE_PATH_FIRST = """
    open creat truncate rename unlink rmdir mkdir link symlink readlink chmod chown stat lstat access statfs chdir mknod
    execve
"""
_TAKE_PATH_SECOND = """
    openat openat2 renameat renameat2 unlinkat mkdirat linkat readlinkat fchmodat fchownat utimensat newfstatat statx
    faccessat faccessat2 mknodat execveat
"""
_FD_FIRST = frozenset(_TAKE_FD_FIRST.split())
_PATH_FIRST = frozenset(_TAKE_PATH_FIRST.split())
_PATH_SECOND = frozenset(_TAKE_PATH_SECOND.split())
_X86_64 = {"audit": 0xC000003E, "seccomp": 317, "column": 0}
_AARCH64 = {"audit": 0xC00000B7, "seccomp": 277, "column": 1}
_MACHINERY = {  # exit, futex, memory, return from a handler: held, they would also hold the code that releases them
    0: frozenset((9, 11, 12, 15, 25, 28, 60, 202, 219, 231)),
    1: frozenset((93, 94, 98, 128, 139, 214, 215, 216, 222, 233)),
}


@dataclass(frozen=True, slots=True)
class Machine:
    """The conventions of this machine.

    Attributes:
        audit: its number in seccomp data.
        seccomp: the number of seccomp(2) itself.
        column: column of the table: 0 for x86_64, 1 for aarch64.
    """

    audit: int
    seccomp: int
    column: int

    def number(self, name: str) -> int | None:
        """Return the number of a system call, by name or as digits; None if this machine has none."""
        if name.isdigit():
            return int(name)
        text = _NUMBERS.get(name, ("-", "-"))[self.column]
        return None if text == "-" else int(text)

    def name(self, number: int) -> str:
        """Return the name of a system call, or its number as digits."""
        return _names(self.column).get(number, str(number))

    def is_machinery(self, number: int) -> bool:
        """Return whether this call must never be held."""
        return number in _MACHINERY[self.column]


def this_machine() -> Machine | None:
    """Return the conventions of this machine; None if there are none for it."""
    if sys.platform != "linux" or sys.maxsize < 2**32:
        return None
    conventions = {"x86_64": _X86_64, "aarch64": _AARCH64}.get(os.uname().machine)
    return None if conventions is None else Machine(**conventions)


def fd_argument(name: str) -> int | None:
    """Return the index of the argument of a system call that is its descriptor; None if it has none."""
    return 0 if name in _FD_FIRST else None


def path_argument(name: str) -> int | None:
    """Return the index of the argument of a system call that points to its first path; None if it has none."""
    return 0 if name in _PATH_FIRST else 1 if name in _PATH_SECOND else None


@cache
def _names(column: int) -> dict[int, str]:
    return {int(pair[column]): name for name, pair in _NUMBERS.items() if pair[column] != "-"}
