"""Connecting the two ends: private data, pin-all as both agree, one queue pair or two."""

from __future__ import annotations

from simmig.guest.api import Guest
from simmig.migration import wire
from simmig.migration.config import RESOLVE_TIMEOUT_NS, MigrationConfig, MigrationError
from simmig.migration.control import PATIENCE_NS, ControlChannel
from simmig.migration.lane import Lane, give_back
from simmig.migration.ram_writer import UpcomingChunks
from simmig.migration.rdma_stream import RdmaDestination, RdmaSource
from simmig.trace.events import Emit, Side
from simmig.verbs.api import Verbs
from simmig.verbs.runtime import Connection, Dialer, Listener, Runtime, Signal


async def connect(
    config: MigrationConfig,
    guest: Guest,
    verbs: Verbs,
    runtime: Runtime,
    dialer: Dialer,
    cancel: Signal,
    emit: Emit | None,
    upcoming_chunks: UpcomingChunks,
) -> RdmaSource:
    """The source's stream. Raises MigrationError when the destination refuses or cannot be reached."""
    own = config.control_qp == "own"
    deferred = config.control_wait == "deferred"
    lanes: list[Lane] = []
    control: ControlChannel | None = None
    try:
        ram = await _dial(config, verbs, runtime, dialer, emit)
        lanes.append(ram)
        control_lane = ram
        if not own:
            control = ControlChannel(ram, deferred)  # its first RECV is posted before connecting
        asked = wire.FLAG_SIMMIG
        asked |= (wire.FLAG_PIN_ALL if config.pin_all else 0) | (wire.FLAG_OWN_CONTROL_QP if own else 0)
        granted = wire.decode_private_data(
            await ram.connection.connect(ram.qp, wire.encode_private_data(asked), RESOLVE_TIMEOUT_NS)
        )
        if own:
            if not granted & wire.FLAG_OWN_CONTROL_QP:
                raise MigrationError('the destination does not know control_qp = "own" (stock QEMU does not)')
            control_lane = await _dial(config, verbs, runtime, dialer, emit)
            lanes.append(control_lane)
            control = ControlChannel(control_lane, deferred)
            private_data = wire.encode_private_data(asked)
            await control_lane.connection.connect(control_lane.qp, private_data, RESOLVE_TIMEOUT_NS)
    except (OSError, MigrationError, verbs.PyverbsError) as error:
        _give_up(verbs, lanes, control)
        raise MigrationError(f"cannot connect: {error}") from error
    assert control is not None
    ram.cancel = control_lane.cancel = cancel
    pin_all = config.pin_all and bool(granted & wire.FLAG_PIN_ALL)
    stock_peer = not granted & wire.FLAG_SIMMIG
    return RdmaSource(config, guest, ram, control, control_lane, pin_all, stock_peer, upcoming_chunks)


async def accept(
    config: MigrationConfig,
    guest: Guest,
    verbs: Verbs,
    runtime: Runtime,
    listener: Listener,
    cancel: Signal,
    emit: Emit | None,
) -> RdmaDestination:
    """The destination's stream. It grants what it knows and, as for pin-all, what its own config allows.

    A stock QEMU that asks for pin-all is granted it or turned away: 7.2, told to migrate without it, dies of an
    assertion, and its machine with it.
    """
    deferred = config.control_wait == "deferred"
    connection = await listener.request()
    lanes: list[Lane] = []
    control: ControlChannel | None = None
    try:
        asked = _asked(connection)
        known = wire.FLAG_SIMMIG | wire.FLAG_OWN_CONTROL_QP | (wire.FLAG_PIN_ALL if config.pin_all else 0)
        granted = asked & known
        if (asked ^ granted) & wire.FLAG_PIN_ALL and not asked & wire.FLAG_SIMMIG:
            connection.reject()
            raise MigrationError(
                "a stock QEMU wants to pin all memory, this side does not: set migration.pin_all=true here, or "
                "migrate_set_capability rdma-pin-all off there"
            )
        ram = _lane(config, verbs, runtime, connection, "destination", emit)
        lanes.append(ram)
        control_lane = ram
        if not granted & wire.FLAG_OWN_CONTROL_QP:
            control = ControlChannel(ram, deferred)
        await connection.accept(ram.qp, wire.encode_private_data(granted))
        if control is None:
            second = await listener.request(runtime.now_ns() + RESOLVE_TIMEOUT_NS)
            _asked(second)
            control_lane = _lane(config, verbs, runtime, second, "destination", emit)
            lanes.append(control_lane)
            control = ControlChannel(control_lane, deferred)
            await second.accept(control_lane.qp, wire.encode_private_data(granted))
        listener.refuse_others()
        if not granted & wire.FLAG_SIMMIG:
            control.silence_ns = PATIENCE_NS
    except (OSError, MigrationError, verbs.PyverbsError) as error:
        _give_up(verbs, lanes, control)
        raise MigrationError(f"cannot accept: {error}") from error
    ram.cancel = control_lane.cancel = cancel
    return RdmaDestination(guest, ram, control, control_lane, bool(granted & wire.FLAG_PIN_ALL))


async def _dial(
    config: MigrationConfig, verbs: Verbs, runtime: Runtime, dialer: Dialer, emit: Emit | None
) -> Lane:
    return _lane(config, verbs, runtime, await dialer.dial(RESOLVE_TIMEOUT_NS), "source", emit)


def _lane(
    config: MigrationConfig,
    verbs: Verbs,
    runtime: Runtime,
    connection: Connection,
    side: Side,
    emit: Emit | None,
) -> Lane:
    try:
        return Lane(verbs, runtime, connection, side, emit, config.send_queue_depth)
    except verbs.PyverbsError as error:
        connection.disconnect()
        raise MigrationError(f"setting up the queue pair failed: {error}") from error


def _asked(connection: Connection) -> int:
    try:
        return wire.decode_private_data(connection.private_data)
    except wire.WireError:
        connection.reject()
        raise


def _give_up(verbs: Verbs, lanes: list[Lane], control: ControlChannel | None) -> None:
    for lane in lanes:
        lane.connection.disconnect()
        lane.close()
    if control is not None:
        control.close()
    for lane in lanes:
        give_back(verbs, lane.pd.close)
