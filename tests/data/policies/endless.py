"""Policies that do not answer: one that computes for ever, one that waits for ever."""

import threading


class Loop:
    def drain(self, point: object, sender: object) -> None:
        while True:
            pass


class Wait:
    def drain(self, point: object, sender: object) -> None:
        threading.Event().wait()
