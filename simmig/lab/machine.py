"""Boot the lab, run one command in it, and leave nothing behind."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from types import FrameType
from typing import IO, Any

from simmig.lab import userland
from simmig.lab.accelerator import Accelerator, Wanted, choose, remember
from simmig.lab.errors import LabError
from simmig.lab.guard import guarded
from simmig.lab.kernel import Kernel, kernel
from simmig.lab.needs import program, require_all
from simmig.lab.tell import Tell

BOOT_PATIENCE_S = 600
"""Under emulation a boot takes 40 s; on two processors with a load of 20 it was seen to take 240 s."""
KVM_BOOT_PATIENCE_S = 60
"""Under KVM it takes a few seconds. A KVM that stalls later than at the kernel's first line is given up then."""
BOOTS = 3
"""So often a machine is booted whose kernel panics on its way up. QEMU before 8.1 emulates several processors
with a race: one may meet a breakpoint that another has just taken out of the kernel's text (an Oops of int3)."""
_LOOK_S = 0.1
_PUMP_BYTES = 1 << 16
_CONSOLE_LINES = 20


@dataclass(frozen=True, slots=True)
class LabLink:
    """What netem does to packets, at each end on their way out: rate in bit/s, delay in ns, loss as a fraction."""

    rate_bit_s: int | None = None
    delay_ns: int = 0
    loss: float = 0.0

    def netem(self) -> str:
        """Netem's arguments (man tc-netem(8)); empty when it has nothing to do."""
        words = []
        if self.rate_bit_s is not None:
            words += ["rate", f"{self.rate_bit_s}bit"]
        if self.delay_ns:
            words += ["delay", f"{self.delay_ns / 1000:.3f}us"]
        if self.loss:
            words += ["loss", f"{self.loss * 100:.6f}%"]
        return " ".join(words)


@dataclass(frozen=True, slots=True)
class Size:
    """The virtual machine's processors and memory (bytes)."""

    cpus: int = 2
    memory_bytes: int = 4 << 30


@dataclass(frozen=True, slots=True)
class Boot:
    """What to boot.

    Attributes:
        series: of kernels, e.g. "6.12"; by default the system's own.
        accel: what runs the machine.
        release: of Debian, e.g. "13", whose user space the command is to see; by default this system.
    """

    series: str | None = None
    accel: Wanted = "auto"
    release: str | None = None


DEFAULT = Boot()


def run(
    command: Sequence[str],
    link: LabLink,
    size: Size,
    tell: Tell,
    timeout_s: float | None = None,
    boot: Boot = DEFAULT,
) -> int:
    """Run `command` in the lab, in the current directory; returns its exit status.

    Standard input, output and error are this process's. Files that it writes below the current directory are
    written here, all others vanish with the machine. An empty command is an interactive shell on the terminal.
    `timeout_s` bounds the command, not the boot. Under `boot.accel` "auto" the machine runs on KVM where the
    kernel boots under it. Raises LabError when the lab cannot be booted, and TimeoutError.
    """
    require_all()
    booted = kernel(tell, boot.series)
    root = None if boot.release is None else userland.provide(boot.release, tell)
    qemu = program("qemu-system-x86_64")
    assert qemu is not None  # required above
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:
            signal.signal(number, _end)  # tidy up on the way out

    def attempt(accelerator: Accelerator) -> int:
        with tempfile.TemporaryDirectory(prefix="simmig-lab-") as directory:
            job = Path(directory).resolve()
            shared = _write_job(job, command, link, root)
            arguments = _machine(booted, job, shared, size, qemu, accelerator.kvm)
            with _pumped(arguments, job, interactive=not command) as process:
                _watch(process, job, timeout_s, KVM_BOOT_PATIENCE_S if accelerator.kvm else BOOT_PATIENCE_S)
            return _status(job, process.returncode)

    chosen = choose(boot.accel, booted, qemu)
    # A KVM that was there and is of no use is told in any case, once: it cost seconds, and will cost more.
    tell(f"booting {booted.release} under {chosen}", urgent=chosen.news and not chosen.kvm)
    for left in reversed(range(BOOTS)):
        try:
            return attempt(chosen)
        except _NeverStarted as error:
            if chosen.kvm and boot.accel != "kvm":
                chosen = Accelerator(False, "under KVM the kernel started, and the lab did not come up")
                remember(booted, qemu, kvm=False, why=chosen.why)
                tell(f"{error}\nbooting under emulation instead, and from now on", urgent=True)
            elif error.panicked and left:
                tell(f"{error}\nthe kernel panicked before it ran anything: booting again", urgent=True)
            else:
                raise LabError(f"under {chosen}\n{error}") from None
    raise AssertionError("the last boot returns or raises")


class _NeverStarted(LabError):
    """The machine did not get as far as its command; `panicked`: for its kernel gave up."""

    def __init__(self, what: str, job: Path) -> None:
        console = _console(job)
        super().__init__(f"{what}\n{console}")
        self.panicked = "Kernel panic" in console


def _end(number: int, frame: FrameType | None) -> None:
    sys.exit(128 + number)


def _write_job(job: Path, command: Sequence[str], link: LabLink, root: Path | None = None) -> bool:
    """Write what the machine is to do into `job`; returns whether the current directory is to be shared."""
    here = Path.cwd()
    exports = [
        f"export {name}={shlex.quote(value)}"
        for name, value in sorted(os.environ.items())
        if name.isidentifier() and name not in {"TMPDIR", "PWD", "SHLVL"}
    ]
    sbin = 'PATH="$PATH:/usr/sbin:/sbin"'  # rdma, ip and tc live there, and a user's PATH may not name it
    script = [*exports, sbin, f"cd {shlex.quote(str(here))}"]
    if command:
        script.append(f"exec {shlex.join(command)}")
    else:
        with contextlib.suppress(OSError):
            columns, rows = os.get_terminal_size()
            script.append(f"stty rows {rows} cols {columns} sane")
        script.append(f"exec {shlex.quote(program('bash') or '/bin/bash')} -i")
        (job / "interactive").touch()
    (job / "command").write_text("\n".join([*script, ""]))
    (job / "netem").write_text(link.netem() + "\n")
    (job / "directory").write_bytes(os.fsencode(here) + b"\0")
    (job / "init.sh").write_text((resources.files("simmig.lab") / "init.sh").read_text())
    if root is not None:
        (job / "userland").write_bytes(os.fsencode(root) + b"\0")
    shared = here != Path("/")
    if shared:
        (job / "shared").touch()
        prefix = Path(sys.prefix)
        within = here in prefix.parents  # a virtual environment below the current directory
        (job / "environment").write_bytes((os.fsencode(prefix) if within else b"") + b"\0")
    return shared


def _machine(booted: Kernel, job: Path, shared: bool, size: Size, qemu: str, fast: bool) -> list[str]:
    """The command line of virtme-run: its kernel, initramfs and ports; our init, file systems and console log."""
    virtme = program("virtme-run")
    assert virtme is not None
    shares = [("lab-root", Path("/"), ",readonly=on"), ("lab-job", job, "")]
    if shared:
        shares.append(("lab-here", Path.cwd(), ""))
    devices = []
    for tag, path, options in shares:
        where = os.fspath(path).replace(",", ",,")
        devices += ["-fsdev", f"local,id={tag},path={where},security_model=none,multidevs=remap{options}"]
        devices += ["-device", f"virtio-9p-pci,fsdev={tag},mount_tag={tag}"]
    # `init=` must come last: what follows the dashes are its arguments.
    init = f"init=/bin/bash -- {job}/init.sh {job} {booted.root}"
    if any(len(path.split()) > 1 for path in (str(job), str(booted.root))):
        raise LabError("the lab does not work with spaces in TMPDIR or in the path of its cache (XDG_CACHE_HOME)")
    return [
        *(virtme, "--kimg", str(booted.image), "--mods=auto", "--force-9p", "--rw", "--disable-monitor"),
        *("--cpus", str(size.cpus), "--memory", f"{size.memory_bytes >> 20}M", "--qemu-bin", qemu),
        *(() if fast else ("--disable-kvm",)),
        *(() if (job / "interactive").exists() else ("--script-sh", "true")),
        *("--qemu-opts", "-no-reboot", "-serial", f"file:{job}/console", *devices),
        *("-append", f"console=ttyS1 quiet loglevel=4 panic=-1 {init}"),
    ]


@contextlib.contextmanager
def _pumped(arguments: Sequence[str], job: Path, interactive: bool) -> Iterator[subprocess.Popen[bytes]]:
    """Run the machine under its guard, with its output pumped to ours; on leaving it is gone."""
    terminal = _terminal_settings() if interactive else None
    # A terminal as standard input would be put into raw mode, for a command that nobody talks to.
    stdin = None if interactive or not sys.stdin.isatty() else subprocess.DEVNULL
    # The machine opens its outputs anew, which would cut off a file: pipes have no such trouble.
    output = None if interactive else subprocess.PIPE
    environment = {**os.environ, "TMPDIR": str(job)}  # what virtme leaves there goes with the rest
    pumps: list[threading.Thread] = []
    try:
        with guarded(arguments, stdin=stdin, stdout=output, stderr=output, env=environment) as process:
            for pair in ((process.stdout, sys.stdout.buffer), (process.stderr, sys.stderr.buffer)):
                if pair[0] is not None:
                    pumps.append(threading.Thread(target=_pump, args=pair, daemon=True))
                    pumps[-1].start()
            yield process
    finally:
        for pump in pumps:
            pump.join()
        if terminal is not None:
            termios.tcsetattr(0, termios.TCSADRAIN, terminal)


def _terminal_settings() -> list[Any]:
    try:
        return termios.tcgetattr(0)
    except (termios.error, OSError):
        raise LabError("a shell in the lab needs a terminal as its standard input") from None


def _pump(source: IO[bytes], sink: IO[bytes]) -> None:
    with source:
        while data := os.read(source.fileno(), _PUMP_BYTES):
            with contextlib.suppress(BrokenPipeError):  # our reader has left: the command may go on
                sink.write(data)
                sink.flush()


def _watch(process: subprocess.Popen[bytes], job: Path, timeout_s: float | None, boot_patience_s: float) -> None:
    """Return when the machine ends; raise when it takes too long to boot or its command to run."""
    deadline = time.monotonic() + boot_patience_s
    started = False
    while True:
        try:
            process.wait(_LOOK_S)
            return
        except subprocess.TimeoutExpired:
            pass
        if (job / "status").exists() or (job / "failed").exists():
            return  # all there is to know; the rest of the shutdown need not be waited for
        if not started and (job / "started").exists():
            started = True
            deadline = float("inf") if timeout_s is None else time.monotonic() + timeout_s
        if time.monotonic() > deadline:
            if started:
                raise TimeoutError(f"the command was still running after {timeout_s:g} s")
            raise _NeverStarted(f"the lab did not boot within {boot_patience_s:g} s", job)


def _status(job: Path, code: int | None) -> int:
    failed, status = job / "failed", job / "status"
    if failed.exists():
        raise LabError(f"{failed.read_text().strip()}\n{_console(job)}")
    if not status.exists():
        ended = f"the lab's machine ended early (status {code})"
        raise LabError(f"{ended}\n{_console(job)}") if (job / "started").exists() else _NeverStarted(ended, job)
    return int(status.read_text())


def _console(job: Path) -> str:
    """The last lines of the machine's console, for whoever has to find out why."""
    try:
        lines = (job / "console").read_text(errors="replace").splitlines()
    except OSError:
        lines = []
    return "\n".join(["its console said last:", *(f"  {line}" for line in lines[-_CONSOLE_LINES:])])
