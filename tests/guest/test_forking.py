"""A child finalises nothing it inherited, and the fork changes nothing in its parent."""

import gc
import os
import weakref

from simmig.guest import forking


class Circle:
    """Freed by a collection only; says so, when it has something to say it with."""

    def __init__(self, tell: int | None = None) -> None:
        self.me = self
        self._tell = tell

    def __del__(self) -> None:
        if self._tell is not None:
            os.write(self._tell, b"freed")


def test_a_collection_in_the_child_frees_nothing_of_the_parents() -> None:
    reading, writing = os.pipe()
    gc.disable()  # so that the circle is still there when it forks
    try:
        Circle(writing)
        child = forking.fork()
        if child == 0:
            try:
                gc.collect()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        os.set_blocking(reading, False)
        try:
            said = os.read(reading, 16)
        except BlockingIOError:
            said = b""
        gc.collect()
        said_here = os.read(reading, 16)
    finally:
        gc.enable()
        os.close(reading)
        os.close(writing)
    assert said == b""
    assert said_here == b"freed"


def test_the_parents_young_garbage_stays_young() -> None:
    assert gc.isenabled()
    gc.disable()
    try:
        gc.collect()
        circle = weakref.ref(Circle())
        child = forking.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        assert not gc.isenabled()
        gc.collect(0)
        assert circle() is None
    finally:
        gc.enable()
    child = forking.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert gc.isenabled()
