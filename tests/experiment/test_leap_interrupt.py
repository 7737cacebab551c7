"""Ctrl-C while the fast engine is compiled, or runs."""

from __future__ import annotations

import ctypes
import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

from simmig.experiment.leap.interrupt import heard
from simmig.verbs.sim.interrupt import held
from simmig.verify import patience


@pytest.fixture(autouse=True)
def heeded() -> Iterator[None]:
    """Ctrl-C raises here, also where the tests run in a background that ignores it (nohup, a shell's job)."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def lose_it() -> None:
    """As a callback of a compiler's does with what a handler raises."""
    with suppress(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_that_is_lost_ends_the_block() -> None:
    with pytest.raises(KeyboardInterrupt), heard():
        lose_it()


def test_an_interrupt_that_becomes_another_error_stays_one() -> None:
    def compile_it() -> None:
        with heard():
            lose_it()
            raise RuntimeError("no compiled object yet")

    with pytest.raises(KeyboardInterrupt):
        compile_it()


def test_other_errors_and_none_stay_what_they_are() -> None:
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(RuntimeError, match="a fault"), heard():
        raise RuntimeError("a fault")
    with heard():
        pass
    assert signal.getsignal(signal.SIGINT) is before


def test_what_comes_while_compiled_code_runs_waits_for_its_end() -> None:
    seen = []

    def run() -> None:
        with held() as pending:
            signal.raise_signal(signal.SIGINT)
            seen.append(len(pending))

    with pytest.raises(KeyboardInterrupt):
        run()
    assert seen == [1]


def test_a_second_one_does_not_wait() -> None:
    seen = []

    def run() -> None:
        with held():
            signal.raise_signal(signal.SIGINT)
            with suppress(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
                seen.append("it waited")

    with pytest.raises(KeyboardInterrupt):
        run()
    assert seen == []


def test_one_that_came_is_handled_when_the_run_fails_too() -> None:
    def run() -> None:
        with held():
            signal.raise_signal(signal.SIGINT)
            raise RuntimeError("a fault")

    with pytest.raises(KeyboardInterrupt):
        run()


# --- a policy that never answers ---


class Silent:
    """Thinks for ever."""

    def drain(self, point: object, sender: object) -> int | None:
        while True:
            pass


def asked_from_outside(policy: Any) -> int:
    """What compiled code would be told: the policy is called from C, at its address."""
    pytest.importorskip("numba")
    from simmig.experiment.leap.own_policy import OwnPolicy  # noqa: PLC0415

    own = OwnPolicy(policy, {})
    with held(), own.asked():
        return int(ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_int64)(own.function.address)(0))


@contextmanager
def interrupts(count: int) -> Iterator[None]:
    """That many, half a second apart."""
    timers = [threading.Timer(0.5 * (1 + i), os.kill, (os.getpid(), signal.SIGINT)) for i in range(count)]
    for timer in timers:
        timer.start()
    try:
        yield
    finally:
        for timer in timers:
            timer.cancel()


def test_a_policy_that_never_answers_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 1)
    no_answer = asked_from_outside(Silent())
    assert no_answer < -1  # neither a number of bytes nor "do not wait"


def test_ctrl_c_is_not_lost_on_a_policy_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 1)
    with interrupts(1), pytest.raises(KeyboardInterrupt):
        asked_from_outside(Silent())


def test_a_second_ctrl_c_ends_a_policy_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "PATIENCE_S", 600)
    with interrupts(2), pytest.raises(KeyboardInterrupt):
        asked_from_outside(Silent())
