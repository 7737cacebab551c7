"""Ctrl-C while the fast engine is compiled, or runs."""

from __future__ import annotations

import signal
from contextlib import suppress

import pytest

from simmig.experiment.leap.interrupt import heard
from simmig.verbs.sim.interrupt import held


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
