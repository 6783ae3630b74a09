"""
A mount that hangs: a raw double of a FUSE server that answers INIT and then never again.

Whoever looks into it waits, and cannot be killed: the request was taken, so the kernel
waits for its answer in uninterruptible sleep, until the server's descriptor is closed.
Only for a mount namespace of one's own (`unshare -m`).
"""

import ctypes
import os
import signal
import struct
from pathlib import Path
from typing import Final

_INIT: Final = 26  # <linux/fuse.h>
_IN_HEADER: Final = struct.Struct("<IIQQIIIHH")
_OUT_HEADER: Final = struct.Struct("<IiQ")
_INIT_OUT: Final = struct.Struct("<IIIIHHIIHHI7I")
_libc = ctypes.CDLL(None, use_errno=True)


class HangingMount:
    """
    A mount whose server is a process of its own, so that the caller needs no thread.

    Args:
        target: An empty directory.

    Raises:
        OSError: Mounting is not permitted here.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        server = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
        options = f"fd={server},rootmode=40000,user_id=0,group_id=0".encode()
        if _libc.mount(b"hanging", bytes(target), b"fuse", 0, options) != 0:
            os.close(server)
            raise OSError(ctypes.get_errno(), "mount", str(target))
        self.pid = os.fork()
        if self.pid == 0:
            try:
                nothing = os.open(os.devnull, os.O_RDWR)
                for descriptor in range(3):  # whoever reads what the caller writes shall see its end
                    os.dup2(nothing, descriptor)
                _serve(server)
            finally:
                os._exit(1)
        os.close(server)

    def free(self) -> None:
        """End the server: everyone who waits gets an error."""
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        _libc.umount2(bytes(self._target), 2)  # MNT_DETACH


def _serve(server: int) -> None:
    """Answer INIT; take everything else and stay silent."""
    while True:
        _, opcode, unique, *_ = _IN_HEADER.unpack_from(os.read(server, 1024 * 1024))
        if opcode == _INIT:
            body = _INIT_OUT.pack(7, 31, 4096, 0, 12, 9, 4096, 1, 1, 0, 0, *([0] * 7))
            os.write(server, _OUT_HEADER.pack(_OUT_HEADER.size + len(body), 0, unique) + body)
