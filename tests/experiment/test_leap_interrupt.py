"""Ctrl-C while the fast engine is compiled."""

from __future__ import annotations

import signal
from contextlib import suppress

import pytest

from simmig.experiment.leap.interrupt import heard


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
