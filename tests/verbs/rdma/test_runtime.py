"""The asyncio runtime: waiting for descriptors, flags and deadlines, without any device."""

import asyncio
import ctypes
import errno
import os
import socket as sockets
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from simmig.verbs.rdma.runtime import RdmaRuntime
from simmig.verbs.rdma.socket import RdmaSocket

MS = 1_000_000


def _run(coroutine: Coroutine[Any, Any, Any]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 20))


class Pipe:
    """A descriptor to wait for."""

    def __init__(self) -> None:
        self.fd, self.writing = os.pipe()

    def close(self) -> None:
        os.close(self.fd)
        os.close(self.writing)


def test_waiting_is_level_triggered_and_by_deadline() -> None:
    async def body() -> None:
        runtime = RdmaRuntime()
        pipe: Any = Pipe()
        flag = runtime.signal()
        began_ns = runtime.now_ns()
        assert not await runtime.wait(pipe, flag, deadline_ns=began_ns + 20 * MS)
        assert runtime.now_ns() - began_ns >= 19 * MS
        assert not await runtime.wait(pipe, deadline_ns=0)
        os.write(pipe.writing, b"x")
        assert await runtime.wait(pipe, flag, deadline_ns=0)
        assert await runtime.wait(pipe, flag)
        os.read(pipe.fd, 1)
        assert not await runtime.wait(pipe, flag, deadline_ns=runtime.now_ns() + MS)
        flag.set()
        flag.set()
        assert await runtime.wait(pipe, flag)
        pipe.close()

    _run(body())


@pytest.mark.parametrize("what", ["descriptor", "signal"])
def test_what_happens_during_a_wait_ends_it(what: str) -> None:
    async def body() -> None:
        runtime = RdmaRuntime()
        pipe: Any = Pipe()
        flag = runtime.signal()

        async def happen() -> None:
            await runtime.sleep(10 * MS)
            if what == "signal":
                flag.set()
            else:
                os.write(pipe.writing, b"x")

        task = runtime.start(happen(), "happen")
        assert await runtime.wait(pipe, flag, deadline_ns=runtime.now_ns() + 10_000 * MS)
        assert flag.is_set == (what == "signal")
        await task.join()
        assert task.done
        pipe.close()

    _run(body())


def test_a_cancelled_task_stops_waiting_and_leaves_nothing_watched() -> None:
    async def body() -> None:
        runtime = RdmaRuntime()
        pipe: Any = Pipe()
        task = runtime.start(runtime.wait(pipe), "waits")
        await runtime.sleep(MS)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task.join()
        assert not asyncio.get_running_loop().remove_reader(pipe.fd)
        pipe.close()

    _run(body())


def test_a_halted_clock_leaves_work_out() -> None:
    async def body() -> None:
        runtime = RdmaRuntime()
        before_ns = runtime.now_ns()
        with runtime.halted():
            await runtime.sleep(200 * MS)
        assert runtime.now_ns() - before_ns < 100 * MS

    _run(body())


def _stream() -> tuple[RdmaSocket, RdmaSocket]:
    with sockets.create_server(("127.0.0.1", 0)) as server:
        near = sockets.create_connection(server.getsockname())
        far = server.accept()[0]
    return RdmaSocket(near), RdmaSocket(far)


@pytest.mark.parametrize("doing", ["receive", "receive_memory", "send"])
@pytest.mark.parametrize("early", [True, False])
def test_a_cancellation_ends_any_wait_for_a_socket(doing: str, early: bool) -> None:
    async def body() -> None:
        runtime = RdmaRuntime()
        ours, theirs = _stream()
        ours.cancel = cancel = runtime.signal()
        place = bytearray(1 << 20)
        address = ctypes.addressof((ctypes.c_char * len(place)).from_buffer(place))
        waits: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "receive": lambda: ours.receive(1),
            "receive_memory": lambda: ours.receive_memory(address, len(place)),
            "send": lambda: ours.send(bytes(64 << 20)),  # more than any buffer takes
        }
        if early:
            cancel.set()
        waiting = runtime.start(waits[doing](), doing)
        await runtime.sleep(20 * MS)
        cancel.set()
        with pytest.raises(OSError, match=os.strerror(errno.ECANCELED)) as caught:
            await waiting.join()
        assert caught.value.errno == errno.ECANCELED
        ours.close()
        theirs.close()

    _run(body())


def test_a_task_that_waits_for_a_socket_can_be_cancelled_itself() -> None:
    async def body() -> None:
        runtime = RdmaRuntime()
        ours, theirs = _stream()
        ours.cancel = runtime.signal()
        waiting = runtime.start(ours.receive(1), "receive")
        await runtime.sleep(5 * MS)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting.join()
        ours.close()
        theirs.close()

    _run(body())


def test_a_socket_carries_bytes_and_memory_and_tells_of_its_end() -> None:
    async def body() -> None:
        runtime = RdmaRuntime()
        ours, theirs = _stream()
        data = bytearray(os.urandom(1 << 20))
        place = bytearray(1 << 20)
        address = ctypes.addressof((ctypes.c_char * len(data)).from_buffer(data))
        there = ctypes.addressof((ctypes.c_char * len(place)).from_buffer(place))
        sending = runtime.start(ours.send_memory(address, len(data)), "send")
        await theirs.receive_memory(there, len(place))
        await sending.join()
        assert place == data
        await ours.send(b"end")
        assert await theirs.receive(100) == b"end"
        ours.close()
        ours.close()
        assert await runtime.wait(theirs)
        with pytest.raises(ConnectionResetError):
            await theirs.receive_memory(there, 1)
        assert theirs.lost
        assert await theirs.receive(1) == b""
        theirs.close()

    _run(body())
