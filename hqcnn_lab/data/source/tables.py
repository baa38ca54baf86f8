"""The bytes of a table that a user hands over: a list of images, of patients or of series."""

import errno
import stat
from pathlib import Path

MOST_BYTES = 2**27  # a hundred times what a table of the whole collection takes


def read_table_bytes(path: Path) -> bytes:
    """Read a plain file. Raises `OSError` with the reason, also for a pipe or a file that no memory is meant for."""
    status = path.stat()
    if stat.S_ISDIR(status.st_mode):
        raise IsADirectoryError(errno.EISDIR, "Is a directory")
    if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for, forever
        raise OSError(errno.EINVAL, "no plain file")
    if status.st_size > MOST_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MOST_BYTES >> 20} MiB")
    return path.read_bytes()
