"""What is asked of the C library in numbers that only glibc has; tests/data/decode/test_glibc_private.py tries it."""

import ctypes
from contextlib import suppress

# Of malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


def keep_freed_memory() -> bool:
    """Have the C library keep what this process frees for what it allocates next; whether it does.

    For a process that reads one large file after another: memory that is given back to the system and asked for again
    is cleared each time. Another C library does as it did.
    """
    with suppress(AttributeError, OSError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        return all([mallopt(_M_MMAP_MAX, 0), mallopt(_M_TRIM_THRESHOLD, -1)])
    return False
