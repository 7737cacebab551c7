"""What the ends of a migration tell each other afterwards: clocks, traces, digests, and a peer that does not."""

import asyncio
import socket
from collections.abc import Coroutine
from typing import Any

import msgspec
import pytest

from simmig.experiment.runs import exchange
from simmig.experiment.runs.exchange import Account, Clock, ExchangeError
from simmig.trace import events as ev
from simmig.verbs.rdma.socket import RdmaSocket

PAGE = bytes(exchange.DIGEST_BYTES)


def _account(origin_ns: int, trace: list[ev.AnyEvent], digests: bytes = b"") -> Account:
    return exchange.make_account(origin_ns, "completed", "", True, trace, digests)


def _both(source: Any, destination: Any) -> tuple[Any, Any]:
    """Run both parts over a pair of sockets; each closes its own in the end."""

    async def part(raw: socket.socket, talk: Any) -> Any:
        opened = RdmaSocket(raw)
        try:
            return await talk(opened)
        except (ExchangeError, OSError) as error:
            return error
        finally:
            opened.close()

    async def body() -> tuple[Any, Any]:
        pair = _tcp_pair()
        talks: list[Coroutine[Any, Any, Any]] = [part(pair[0], source), part(pair[1], destination)]
        one, other = await asyncio.gather(*talks)
        return one, other

    return asyncio.run(body())


def _tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        one = socket.create_connection(server.getsockname())
        other, _ = server.accept()
    return one, other


def test_each_end_gets_the_others_account() -> None:
    source = _account(100, [ev.SetupEnded(1, "source")], PAGE * 3)
    destination = _account(300, [ev.VmResumed(2, "destination")], PAGE * 2)
    (theirs, clock), (ours, same) = _both(
        lambda s: exchange.ask(s, source), lambda s: exchange.answer(s, destination)
    )
    assert theirs == destination
    assert msgspec.structs.replace(ours, clock=Clock()) == source
    assert clock == same == Clock(0, 0)  # one kernel, one clock


def test_clocks_of_two_hosts_are_compared() -> None:
    source = _account(0, [])
    destination = msgspec.structs.replace(_account(0, []), boot="another kernel")
    (_, clock), (_, same) = _both(lambda s: exchange.ask(s, source), lambda s: exchange.answer(s, destination))
    assert clock == same
    assert clock.uncertainty_ns > 0
    assert abs(clock.ahead_ns) <= clock.uncertainty_ns  # in truth it is one kernel


def test_the_whole_trace_is_on_the_sources_axis() -> None:
    stopped, ended = ev.VmStopped(50, "source"), ev.MigrationEnded(90, "source", "completed", "")
    resumed = ev.VmResumed(1000, "destination")
    source = _account(10_000, [stopped, ended], PAGE + b"a" * 16 + PAGE)
    destination = _account(9_500, [resumed], PAGE * 3)
    # 1000 ns after 9500 on a clock 440 ns ahead: 10060 on the source's clock, 60 ns after its origin.
    assert exchange.whole_trace(source, destination, Clock(440)) == [
        stopped,
        ev.MemoryCompared(60, "destination", 3, 1),
        ev.VmResumed(60, "destination"),
        ended,
    ]


def test_without_digests_nothing_is_said_of_memory() -> None:
    whole = exchange.whole_trace(_account(0, [], PAGE), _account(0, [ev.VmResumed(1, "destination")]), Clock())
    assert whole == [ev.VmResumed(1, "destination")]


def test_memories_of_different_length_differ() -> None:
    destination = _account(0, [ev.VmResumed(1, "destination")], PAGE)
    compared = exchange.whole_trace(_account(0, [], PAGE * 4), destination, Clock())[0]
    assert compared == ev.MemoryCompared(1, "destination", 4, 3)


async def _hang_up(opened: RdmaSocket) -> None:
    await opened.receive(1)


async def _babble(opened: RdmaSocket) -> None:
    await opened.receive(1)
    await opened.send(bytes(8))
    while await opened.receive(1) == b"?":
        await opened.send(bytes(8))
    await opened.receive(1 << 20)
    await opened.send((5).to_bytes(8, "big") + b"hello")


async def _threaten(opened: RdmaSocket) -> None:
    await opened.send(b"!" + b"\xff" * 8)


@pytest.mark.parametrize(("peer", "reason"), [(_hang_up, "said nothing"), (_babble, "another version of simmig")])
def test_a_destination_that_makes_no_sense(peer: Any, reason: str) -> None:
    error, _ = _both(lambda s: exchange.ask(s, _account(0, [])), peer)
    assert isinstance(error, ExchangeError | ConnectionError)
    assert isinstance(error, ConnectionError) or reason in str(error)


def test_an_account_that_is_too_long_is_not_waited_for() -> None:
    _, error = _both(_threaten, lambda s: exchange.answer(s, _account(0, [])))
    assert isinstance(error, ExchangeError)
    assert "announced" in str(error)
