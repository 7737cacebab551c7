"""The destination's side of a migration: take a guest over, or leave it where it is."""

from __future__ import annotations

import errno
from collections.abc import Callable

from simmig.guest.api import Guest
from simmig.migration import rdma_connect
from simmig.migration.config import Cancelled, MigrationConfig, MigrationError, Outcome
from simmig.migration.rdma_stream import RdmaDestination, reason_of
from simmig.migration.savevm import Loader
from simmig.migration.tcp_stream import SocketDestination
from simmig.trace.events import DeviceStateLoaded, Emit, MigrationEnded, VmResumed
from simmig.verbs.api import Verbs
from simmig.verbs.runtime import Listener, Runtime, Signal


async def receive(
    config: MigrationConfig,
    guest: Guest,
    verbs: Verbs,
    runtime: Runtime,
    listener: Listener,
    cancel: Signal,
    emit: Emit | None = None,
    before_resume: Callable[[], None] | None = None,
) -> Outcome:
    """Wait for one source and take its guest over; never raises for a migration that fails.

    `before_resume` is called when everything has arrived and the guest does not run yet. Whatever the outcome but
    "completed", the guest does not run here.
    """
    stream: RdmaDestination | SocketDestination | None = None
    listener.cancel = cancel
    try:
        if config.transport == "tcp":
            stream = SocketDestination(await listener.socket(), guest, runtime, cancel)
        else:
            stream = await rdma_connect.accept(config, guest, verbs, runtime, listener, cancel, emit)
        loader = Loader(stream, guest)
        await loader.load()
        if emit is not None:
            emit(DeviceStateLoaded(runtime.now_ns(), "destination", loader.state_bytes))
        if before_resume is not None:
            before_resume()
        await guest.resume()
        if emit is not None:
            emit(VmResumed(runtime.now_ns(), "destination"))
        outcome = Outcome("completed")
    except Cancelled as error:
        outcome = Outcome("cancelled", reason_of(error))
    except (MigrationError, OSError, verbs.PyverbsError) as error:
        cancelled = isinstance(error, OSError) and error.errno == errno.ECANCELED
        outcome = Outcome("cancelled" if cancelled else "failed", reason_of(error))
    finally:
        if stream is not None:
            await (stream.linger() if guest.running else stream.abort())
            await stream.close()
    if emit is not None:
        emit(MigrationEnded(runtime.now_ns(), "destination", outcome.status, outcome.reason))
    return outcome
