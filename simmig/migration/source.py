"""The source's side of a migration: setup, live rounds and slices, the stop, the switch."""

from __future__ import annotations

from simmig.guest import machine_state
from simmig.guest.api import PAGE_BYTES, Guest
from simmig.migration import rdma_connect, savevm
from simmig.migration.began import began
from simmig.migration.config import (
    CHUNK_PAGES,
    RESOLVE_TIMEOUT_NS,
    Cancelled,
    MigrationConfig,
    MigrationError,
    NotConverging,
    Outcome,
)
from simmig.migration.convergence import Convergence, Shrinking, divergence
from simmig.migration.limits import Limits
from simmig.migration.pace import Pace
from simmig.migration.policies.policy import Point, Policy
from simmig.migration.ram import DirtyBitmap, runs_of
from simmig.migration.rate_limit import RateLimit
from simmig.migration.rdma_stream import RdmaSource, reason_of
from simmig.migration.stream import MAX_ENDING_BYTES
from simmig.migration.tcp_stream import SocketSource
from simmig.own_code import RAISED, told
from simmig.trace.events import (
    AskedBy,
    BandwidthEstimated,
    BitmapSynced,
    DeviceStateSent,
    DrainBegan,
    DrainEnded,
    Emit,
    MigrationEnded,
    RoundBegan,
    RoundEnded,
    SetupEnded,
    SliceBegan,
    SliceEnded,
    VmResumed,
    VmStopped,
)
from simmig.verbs.api import Verbs
from simmig.verbs.runtime import Dialer, Runtime, Signal, Work


async def migrate(
    config: MigrationConfig,
    guest: Guest,
    verbs: Verbs,
    runtime: Runtime,
    dialer: Dialer,
    policy: Policy,
    cancel: Signal,
    emit: Emit | None = None,
) -> Outcome:
    """Migrate `guest` to whoever listens where `dialer` leads; never raises for a migration that fails.

    Whatever the outcome but "completed", the guest runs here when this returns.
    """
    source = _Source(config, guest, verbs, runtime, dialer, policy, cancel, emit)
    return await source.run()


class _Source:
    """One migration; to its policy it is the `Sender`."""

    def __init__(
        self,
        config: MigrationConfig,
        guest: Guest,
        verbs: Verbs,
        runtime: Runtime,
        dialer: Dialer,
        policy: Policy,
        cancel: Signal,
        emit: Emit | None,
    ) -> None:
        self._config = config
        self._guest = guest
        self._verbs = verbs
        self._runtime = runtime
        self._dialer = dialer
        self._policy = policy
        self._cancel = cancel
        self._emit = emit
        self._bitmap = DirtyBitmap(guest.blocks)
        self._stream: RdmaSource | SocketSource | None = None
        self._stopped = False
        self._handed_over = False
        self._shrinking = Shrinking()
        self._pace = Pace(config.slice_ns)
        self._section_open = False
        self.round = 0
        self.slice = 0
        self.chunks = 0

    # What the policy sees.

    @property
    def posted_bytes(self) -> int:
        return self._open_stream.posted_bytes

    @property
    def completed_bytes(self) -> int:
        return self._open_stream.completed_bytes

    @property
    def pending_bytes(self) -> int:
        return self._open_stream.pending_bytes

    @property
    def bandwidth_bytes_s(self) -> int:
        return self._convergence.bandwidth_bytes_s

    @property
    def downtime_limit_ns(self) -> int:
        return self._limits.downtime_limit_ns

    @property
    def now_ns(self) -> int:
        return self._runtime.now_ns()

    @property
    def _open_stream(self) -> RdmaSource | SocketSource:
        assert self._stream is not None
        return self._stream

    async def run(self) -> Outcome:
        """The whole migration."""
        self._record_begin()
        self._limits = Limits(self._config, self.now_ns, self._emit)
        try:
            await self._open()
            await self._setup()
            await self._live()
            await self._stop_and_copy()
            await self._hand_over()
            outcome = Outcome("completed")
        except Cancelled as error:
            outcome = Outcome("cancelled", reason_of(error))
        except NotConverging as error:
            outcome = Outcome("not-converging", reason_of(error))
        except (MigrationError, OSError, self._verbs.PyverbsError) as error:
            outcome = Outcome("failed", reason_of(error))
        finally:
            await self._clean_up()
        if self._emit is not None:
            self._emit(MigrationEnded(self.now_ns, "source", outcome.status, outcome.reason))
        return outcome

    async def _clean_up(self) -> None:
        """Give the guest back its life first, then tell the peer, then tidy."""
        if self._stopped and not self._handed_over:
            await self._guest.resume()
            if self._emit is not None:
                self._emit(VmResumed(self.now_ns, "source"))
        self._guest.stop_dirty_log()
        if self._stream is not None:
            if not self._handed_over:
                await self._stream.abort()
            await self._stream.close()

    # Setup.

    async def _open(self) -> None:
        config = self._config
        if config.transport == "tcp":
            socket = await self._dialer.dial_socket(RESOLVE_TIMEOUT_NS)
            self._stream = SocketSource(socket, self._guest, self._runtime, self._cancel, self._emit)
            return
        self._stream = await rdma_connect.connect(
            config,
            self._guest,
            self._verbs,
            self._runtime,
            self._dialer,
            self._cancel,
            self._emit,
            self._bitmap.upcoming_chunks,
        )

    async def _setup(self) -> None:
        stream = self._open_stream
        stream.put(savevm.stream_header(self._guest.machine_name))
        self._guest.start_dirty_log()
        self._bitmap.bits &= ~self._guest.ballooned()
        self._sync()
        self._begin_round()
        stream.put(savevm.ram_start(self._guest.blocks))
        await stream.begin_ram_section()
        await stream.end_ram_section()
        stream.put(savevm.flag(savevm.FLAG_EOS))
        await stream.flush()
        stream.put(machine_state.footer(savevm.RAM_ID))
        now_ns = self.now_ns
        self._convergence = Convergence(self._config, now_ns, stream.tell())
        self._rate = RateLimit(self._config, now_ns, stream.tell())
        if self._emit is not None:
            self._emit(SetupEnded(now_ns, "source"))

    # The live phase.

    async def _live(self) -> None:
        """Slices until what is left would fit into the downtime limit."""
        while not await self._converged():
            await self._slice()
            await self._obey_rate_limit()
            if self._convergence.due(self.now_ns):
                await self._open_stream.flush()  # QEMU reads its position by flushing the stream
                self._estimate()
            self._renew_rate()

    async def _converged(self) -> bool:
        """Whether to stop the guest now. A bitmap sync, and with it a new round, comes only when it might be.

        QEMU also stops, unseen, when it has walked all memory before its first estimate; here that walk's own
        bandwidth is the estimate then.
        """
        bitmap, convergence = self._bitmap, self._convergence
        self._check_cancel()
        if bitmap.dirty_pages and bitmap.dirty_pages * PAGE_BYTES >= convergence.threshold_bytes:
            return False
        if not convergence.threshold_bytes:
            self._estimate()
        await self._ask(Point.ROUND_END)
        self._end_round()
        self._sync()
        if bitmap.dirty_pages and bitmap.dirty_pages * PAGE_BYTES >= convergence.threshold_bytes:
            if self._config.stop_when_flat and self._shrinking.is_hopeless(bitmap.dirty_pages):
                raise NotConverging(self._tell_divergence(self._shrinking.flat_rounds))
            if self.round == self._config.max_rounds:
                raise NotConverging(self._tell_divergence())
            self._begin_round()
            return False
        return True

    async def _slice(self) -> None:
        """A stretch of the walk over the bitmap, as long as the scenario's slice."""
        slice_ns = self._config.slice_ns
        await self._open_section(savevm.END if slice_ns is None else savevm.PART)
        self._pace.slice_began(self.now_ns)
        while await self._walk() and not self._pace.timed:
            await self._flush_chunk()  # nothing is held back for the next window
            self._check_cancel()
            await self._obey_rate_limit()
            self._renew_rate()
        await self._flush_chunk()
        if slice_ns is not None:
            await self._ask(Point.SLICE_END)
            await self._close_section()

    def _may_follow(self, saved_pages: int) -> int:
        """How many pages may follow in one run, after so many in this stretch of the walk; 0 ends it."""
        if self._stopped:
            return CHUNK_PAGES
        now_ns = self._runtime.now_ns()
        if not self._pace.timed:
            if self._convergence.due(now_ns):
                self._check_cancel()
                self._estimate()
            if self._rate.is_over(now_ns):
                return 0
        return self._pace.pages(now_ns, saved_pages, self._rate.pages_left(self._open_stream.tell(), saved_pages))

    def _goes_on(self, saved_pages: int) -> bool:
        """Whether a run that was let follow may go on beyond its first page now that something was sent."""
        return self._stopped or (
            self._pace.goes_on(self._runtime.now_ns(), saved_pages)
            and self._rate.pages_left(self._open_stream.tell(), saved_pages) > 0
        )

    async def _walk(self) -> bool:
        """Send dirty pages as far as they may follow; False when none is left."""
        runtime, pages, take = self._runtime, self._open_stream.pages, self._bitmap.take
        merge, try_flush = pages.merge, pages.try_flush
        saved = 0
        while limit := self._may_follow(saved):
            run = take(limit)
            if run is None:
                break
            first_page, count = run
            if not merge(first_page, count):
                left_chunk = pages.left_by(first_page)
                if not try_flush():
                    await pages.flush()
                if count > 1 and not self._goes_on(saved):
                    self._bitmap.put_back(first_page + 1, count - 1)
                    count = 1
                merge(first_page, count)
                if runtime.lags:
                    await runtime.checkpoint()
                    pages.poll()
                if left_chunk:
                    self.chunks += 1
                    target = self._decide(Point.CHUNK_FULL)
                    if target is not None:
                        await self._drain(target, "policy", Point.CHUNK_FULL)
            runtime.work(Work.SCAN_PAGE, count)
            saved += count
        self._rate.walked(saved)
        return limit == 0

    async def _flush_chunk(self) -> None:
        if await self._open_stream.flush_pages():
            self.chunks += 1
            await self._ask(Point.CHUNK_FULL)

    async def _open_section(self, kind: int) -> None:
        if self._section_open:
            return
        self._section_open = True
        self.slice += 1
        if self._emit is not None:
            self._emit(SliceBegan(self.now_ns, "source", self.slice))
        self._open_stream.put(savevm.ram_section(kind))
        await self._open_stream.begin_ram_section()

    async def _close_section(self) -> None:
        stream = self._open_stream
        await stream.end_ram_section()
        stream.put(savevm.flag(savevm.FLAG_EOS))
        await stream.flush()
        stream.put(machine_state.footer(savevm.RAM_ID))  # QEMU lets it wait for the next flush
        self._section_open = False
        if self._emit is not None:
            self._emit(SliceEnded(self.now_ns, "source", self.slice))

    def _estimate(self) -> None:
        convergence, now_ns = self._convergence, self.now_ns
        convergence.limit_ns = self._limits.take_downtime_limit(now_ns, self.round)
        convergence.close_window(now_ns, self._open_stream.tell())
        if self._emit is not None:
            bandwidth, threshold = convergence.bandwidth_bytes_s, convergence.threshold_bytes
            self._emit(BandwidthEstimated(now_ns, "source", bandwidth, threshold))

    async def _obey_rate_limit(self) -> None:
        while wait_ns := self._rate.wait_ns(self.now_ns, self._open_stream.tell()):
            await self._runtime.sleep(wait_ns)

    def _renew_rate(self) -> None:
        now_ns = self.now_ns
        if self._rate.renew(now_ns, self._open_stream.tell()):
            self._rate.allow(self._limits.take_max_bandwidth(now_ns, self.round) or 0)

    # The stop and the switch.

    async def _stop_and_copy(self) -> None:
        await self._ask(Point.BEFORE_STOP)
        self._check_cancel()
        self._stopped = True
        await self._guest.stop()
        if self._emit is not None:
            self._emit(VmStopped(self.now_ns, "source"))
        self._sync()
        self._begin_round()
        await self._open_section(savevm.END)
        await self._walk()
        await self._flush_chunk()
        for point in (Point.ROUND_END, Point.SLICE_END, Point.BEFORE_DEVICE_STATE):
            await self._ask(point)
        # What no policy asked for, correctness demands: every page has landed before the guest may run there.
        await self._drain(0, "protocol", Point.BEFORE_DEVICE_STATE)
        self._end_round()
        await self._close_section()

    async def _hand_over(self) -> None:
        """Device state, then the ending that lets the destination run.

        That goes alone, in one piece, and only when the destination has granted it: by then it has loaded all the
        rest. Once its SEND has completed the guest is the destination's.
        """
        stream = self._open_stream
        state = await self._guest.save_device_state()
        try:
            sections, ending = machine_state.with_ending(state, MAX_ENDING_BYTES)
        except ValueError as error:
            raise MigrationError(str(error)) from error
        stream.put(sections)
        await stream.flush()
        if self._emit is not None:
            self._emit(DeviceStateSent(self.now_ns, "source", len(sections)))
        self._check_cancel()
        stream.put(ending)
        await stream.flush_last()
        self._handed_over = True

    # Small things.

    async def _ask(self, point: Point) -> None:
        target = self._decide(point)
        if target is not None:
            await self._drain(target, "policy", point)

    def _decide(self, point: Point) -> int | None:
        try:
            target = self._policy.drain(point, self)
        except RAISED as error:
            raise MigrationError(f"the policy raised {told(error)} at {point.value}") from error
        if target is not None and (not isinstance(target, int) or target < 0):
            raise MigrationError(f"the policy answered {target!r:.60} at {point.value}: no number of bytes")
        return target

    async def _drain(self, target: int, asked_by: AskedBy, point: Point) -> None:
        stream = self._open_stream
        pending = stream.pending_bytes
        if pending <= target:
            return
        if self._emit is not None:
            self._emit(DrainBegan(self.now_ns, "source", asked_by, point.value, pending, target))
        await stream.drain(target)
        if self._emit is not None:
            self._emit(DrainEnded(self.now_ns, "source", asked_by, stream.pending_bytes))

    def _sync(self) -> None:
        new = self._guest.sync_dirty(self._bitmap.bits)
        self._runtime.work(Work.SYNC_PAGE, len(self._bitmap.bits))
        self._bitmap.rescan()
        if self._emit is not None:
            self._emit(BitmapSynced(self.now_ns, "source", new, self._bitmap.dirty_pages))

    def _begin_round(self) -> None:
        self.round += 1
        if self._limits.are_final(self.now_ns, self.round):  # else rounds may yet become smaller
            self._shrinking.round_began(self._bitmap.dirty_pages)
        if self._emit is not None:
            self._emit(RoundBegan(self.now_ns, "source", self.round, self._bitmap.dirty_pages))

    def _end_round(self) -> None:
        if self._emit is not None:
            self._emit(RoundEnded(self.now_ns, "source", self.round))

    def _check_cancel(self) -> None:
        if self._cancel.is_set:
            raise Cancelled("cancelled by the user")

    def _tell_divergence(self, flat_rounds: int = 0) -> str:
        left_pages, threshold_bytes = self._bitmap.dirty_pages, self._convergence.threshold_bytes
        return divergence(self.round, left_pages, threshold_bytes, flat_rounds)

    def _record_begin(self) -> None:
        if self._emit is not None:
            name = getattr(self._policy, "name", type(self._policy).__name__)
            memory_bytes = sum(block.length_bytes for block in self._guest.blocks)
            given_back = runs_of(self._guest.ballooned())
            self._emit(began(self.now_ns, self._config, self._policy, name, memory_bytes, given_back))
