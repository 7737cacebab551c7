"""A fork whose child leaves alone what it inherited."""

import gc
import os
import warnings


def fork() -> int:
    """As `os.fork`, but no garbage collection in the child finalises what belongs to the parent.

    Nothing changes for the parent: freezing its own objects around the fork would age them, and its garbage with
    them, which then waits for a full collection.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with warnings.catch_warnings():
            # NumPy's idle threads are not in the child, which does no linear algebra.
            warnings.simplefilter("ignore", DeprecationWarning)
            process = os.fork()
        if process == 0:
            gc.freeze()
    finally:
        if collecting:
            gc.enable()
    return process
