#!/usr/bin/env python3
"""Every system call of the library is made in src/base/os_linux.c, so that faults can be put in one place.

Finds calls of the C library's wrappers elsewhere. Those that cannot fail are left alone: getpid(), _exit(), and the clock in
src/base/clock.c. usage: check_calls.py SOURCE_DIR
"""
import re
import sys
from pathlib import Path

CALLS = """
    access close creat dup dup2 dup3 epoll_create1 epoll_ctl epoll_wait eventfd execve faccessat fallocate fchmod fchmodat fcntl
    fdopendir flock fork fstat fstatat fstatfs fstatvfs fsync ftruncate futimens getcwd getrandom ioctl kill link linkat lseek
    lstat madvise memfd_create mkdir mkdirat mkdtemp mkstemp mlock mmap mprotect mremap msync munmap nanosleep open open64
    openat opendir pause pipe pipe2 poll posix_fallocate posix_spawn posix_spawnp ppoll prctl pread preadv pwrite pwritev raise
    read readdir readlink readlinkat readv recv recvmsg rename renameat rmdir sched_getaffinity sched_getcpu sched_yield select
    send sendmsg shm_open shm_unlink sigaction signal sleep socket socketpair stat statfs statvfs symlink sysconf syscall
    timerfd_create truncate unlink unlinkat usleep utimensat vfork waitid waitpid write writev
""".split()
CALL = re.compile(r"(?<![\w.>\"])(" + "|".join(CALLS) + r")\s*\(")
SILENT = re.compile(r"/\*.*?\*/|//[^\n]*|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])*'", re.DOTALL)
HERE = "src/base/os_linux.c"


def blank(match):
    return re.sub(r"[^\n]", " ", match.group())


def check(path, relative):
    text = SILENT.sub(blank, path.read_text(encoding="utf-8"))
    own = set(re.findall(r"^static [\w \*]*?\b(\w+)\(", text, re.MULTILINE))
    for match in CALL.finditer(text):
        name = match.group(1)
        if name not in own:
            yield f"{relative}:{text.count(chr(10), 0, match.start()) + 1}: {name}() is {HERE}'s to call"


def main():
    source = Path(sys.argv[1])
    seen, problems = 0, []
    for path in sorted((source / "src").rglob("*.c")):
        relative = path.relative_to(source).as_posix()
        if relative != HERE:
            seen += 1
            problems += check(path, relative)
    print("\n".join(problems) or f"{seen} sources make no system call by themselves")
    return 1 if problems or seen < 50 else 0


if __name__ == "__main__":
    sys.exit(main())
