"""Processes that heed interrupts, whoever runs the tests: under nohup, or in the background, they are ignored."""

import signal


def heeding() -> None:
    """For `preexec_fn`."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
