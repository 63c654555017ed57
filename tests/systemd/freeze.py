"""Stops threads of a process, and not the process: what a deadlock or an endless loop looks like from outside. Linux only.

    freeze.py PID NAME      holds all threads whose name begins with NAME until the process is gone
"""

import ctypes
import os
import pathlib
import sys

PTRACE_SEIZE, PTRACE_INTERRUPT = 0x4206, 0x4207
WALL = 0x40000000

libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]


def trace(request, thread):
    if libc.ptrace(request, thread, None, None) != 0:
        error = ctypes.get_errno()
        raise OSError(error, f"ptrace {request:#x} of {thread}: {os.strerror(error)}")


def freeze(pid, name):
    """Stops them, and says how many there are."""
    threads = {
        int(task.name)
        for task in pathlib.Path(f"/proc/{pid}/task").iterdir()
        if (task / "comm").read_text().startswith(name)
    }
    for thread in threads:
        trace(PTRACE_SEIZE, thread)
        trace(PTRACE_INTERRUPT, thread)
        os.waitpid(thread, WALL)
    print(len(threads), flush=True)
    return threads


def hold(threads):
    """Waits until they are gone: then nobody holds them, and the process can end."""
    while threads:
        thread, status = os.waitpid(-1, WALL)
        if os.WIFEXITED(status) or os.WIFSIGNALED(status):
            threads.discard(thread)


if __name__ == "__main__":
    hold(freeze(int(sys.argv[1]), sys.argv[2]))
