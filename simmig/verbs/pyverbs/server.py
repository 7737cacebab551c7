"""Keeps a world for programs in other processes: a thread a connection, objects by their numbers."""

from __future__ import annotations

import importlib
import pickle
import threading
from collections import Counter, defaultdict
from itertools import count
from multiprocessing.connection import Connection, Listener
from typing import Any

from simmig.verbs.pyverbs import cmid, qp, session, wire  # noqa: F401  (classes that questions name)
from simmig.verbs.pyverbs.base import PyverbsError, Resource
from simmig.verbs.pyverbs.device import Context
from simmig.verbs.pyverbs.others import has_company, pid_of
from simmig.verbs.pyverbs.world import World


class Server:
    """Listens at a socket in the file system, until `close`.

    What a process refers to lives until it drops it, or ends: then it is closed, as the kernel does.
    """

    def __init__(self, world: World, address: str) -> None:
        self.world = world
        world.sharers = lambda: len(self._connections)
        world.alone = self._is_alone
        self._before = session.use(world)
        self._listener = Listener(address, family="AF_UNIX", backlog=64)
        self._connections: dict[Connection, int] = {}  # with the process at the other end
        self._numbers = count(1)
        self._objects: dict[int, Resource] = {}
        self._references: dict[str, Counter[int]] = defaultdict(Counter)
        self._processes: Counter[str] = Counter()
        self._open: set[Connection] = set()
        threading.Thread(target=self._accept, name="pyverbs server", daemon=True).start()

    def close(self) -> None:
        """Stop listening, and hang up on everybody."""
        self._listener.close()
        for connection in list(self._open):
            connection.close()
        session.use(self._before)

    def _is_alone(self) -> bool:
        pids = list(self._connections.values())
        return len(pids) < 2 and not any(has_company(pid) for pid in pids)

    def _accept(self) -> None:
        while True:
            try:
                connection = self._listener.accept()
            except OSError:
                return
            self._open.add(connection)
            threading.Thread(target=self._serve, args=(connection,), name="pyverbs client", daemon=True).start()

    def _serve(self, connection: Connection) -> None:
        token = ""
        try:
            token = connection.recv()
            with session.lock:
                self._connections[connection] = pid_of(connection)
                self._processes[token] += 1
            while True:
                data = connection.recv_bytes()
                with session.lock:
                    answer = self._answer(data, token)
                connection.send_bytes(answer)
        except (EOFError, OSError):
            pass
        finally:
            self._open.discard(connection)
            connection.close()
            if token:
                with session.lock:
                    self._connections.pop(connection, None)
                    self._processes[token] -= 1
                    if not self._processes[token]:
                        self._bury(token)

    def _answer(self, data: bytes, token: str) -> bytes:
        def refer(obj: Any) -> wire.Reference | None:
            if isinstance(obj, Resource):
                return self._refer(obj, token), type(obj)
            return None

        changed: list[tuple[int, Any]] = []
        try:
            dropped, question = wire.loads(data, lambda reference: self._objects[reference[0]])
            for number, times in dropped:
                self._drop(token, number, times)
            result = self._do(token, *question)
            good = True
            arguments = next((part for part in question if isinstance(part, tuple)), ())
            changed = [(i, arg) for i, arg in enumerate(arguments) if getattr(arg, "written_back", False)]
        except Exception as error:  # whatever it is, it is the program's to see
            good, result = False, error
        session.changed.notify_all()
        try:
            return wire.dumps((good, result, changed), refer)
        except (pickle.PicklingError, TypeError, AttributeError) as error:
            return wire.dumps((False, PyverbsError(f"{type(result).__name__}: {result} ({error})"), []), refer)

    def _do(self, token: str, what: str, *rest: Any) -> Any:
        if what == "create":
            kind, args, kwargs = rest
            return self._refer(kind(*args, **kwargs), token)
        if what == "function":
            module, name, args, kwargs = rest
            return getattr(importlib.import_module(module), name)(*args, **kwargs)
        obj, name, *values = rest
        if what == "call":
            args, kwargs = values
            return getattr(obj, name)(*args, **kwargs)
        if what == "set":
            setattr(obj, name, values[0])
            return None
        return getattr(obj, name)

    def _refer(self, obj: Resource, token: str) -> int:
        number = vars(obj).get("_number")
        if number is None:
            number = vars(obj)["_number"] = next(self._numbers)
        self._objects[number] = obj
        self._references[token][number] += 1
        return int(number)

    def _drop(self, token: str, number: int, times: int) -> None:
        references = self._references[token]
        references[number] -= times
        if references[number] <= 0:
            del references[number]
            if not any(number in others for others in self._references.values()):
                self._objects.pop(number, None)  # and closes, unless something else refers to it

    def _bury(self, token: str) -> None:
        """The process has ended: what it alone referred to is closed, what was made last first."""
        numbers = sorted(self._references.pop(token, ()), reverse=True)
        gone = [n for n in numbers if not any(n in others for others in self._references.values())]
        objects = [self._objects.pop(number) for number in gone if number in self._objects]
        for obj in sorted(objects, key=lambda obj: not isinstance(obj, Context)):
            try:
                obj.close()
            except PyverbsError:
                continue
        session.changed.notify_all()
