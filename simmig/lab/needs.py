"""What the lab needs on this machine, what of it is missing, and the commands that install it."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from simmig.lab.errors import LabError

DIST_PACKAGES = Path("/usr/lib/python3/dist-packages")
VIRTME_REQUIREMENT = "virtme-ng>=1.40"


@dataclass(frozen=True, slots=True)
class Need:
    """One thing the lab needs: what for, and the Debian package (or, `pip`, the requirement) that brings it."""

    what: str
    purpose: str
    package: str
    found: bool
    pip: bool = False


def program(name: str) -> str | None:
    """Where a program is: beside this Python, on PATH, or where Debian keeps those of the system."""
    beside = str(Path(sys.executable).parent)
    path = os.pathsep.join([beside, os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
    return shutil.which(name, path=path)


def needs() -> list[Need]:
    """Everything the lab needs, found or not, in the order in which it is needed."""
    found = [
        Need(name, purpose, package, program(name) is not None)
        for name, purpose, package in (
            ("apt-get", "downloads the kernel", "apt"),
            ("dpkg", "unpacks the kernel", "dpkg"),
            ("depmod", "indexes the kernel's modules", "kmod"),
            ("qemu-system-x86_64", "runs the virtual machine", "qemu-system-x86"),
            ("busybox", "starts it", "busybox-static"),
            ("ip", "makes the link", "iproute2"),
            ("tc", "sets its rate, delay and loss", "iproute2"),
            ("rdma", "makes the two devices", "iproute2"),
            ("ibv_devinfo", "shows them", "ibverbs-utils"),
        )
    ]
    provider = any(Path("/usr/lib").glob("*/libibverbs/librxe-rdmav*.so"))
    return [
        *found,
        Need("librxe", "drives them from user space", "ibverbs-providers", provider),
        Need("librdmacm", "connects them", "librdmacm1", any(Path("/usr/lib").glob("*/librdmacm.so.1"))),
        Need("pyverbs", "drives them from Python", "python3-pyverbs", (DIST_PACKAGES / "pyverbs").is_dir()),
        Need(
            "virtme-run",
            "boots a kernel on this system",
            VIRTME_REQUIREMENT,
            program("virtme-run") is not None,
            True,
        ),
    ]


def install_commands(missing: list[Need]) -> list[list[str]]:
    """The commands that install what is missing."""
    commands = []
    packages = sorted({need.package for need in missing if not need.pip})
    if packages:
        sudo = [] if os.geteuid() == 0 else ["sudo"]
        commands.append([*sudo, "apt-get", "install", "--no-install-recommends", "-y", *packages])
    requirements = sorted({need.package for need in missing if need.pip})
    if requirements:
        commands.append([sys.executable, "-m", "pip", "install", *requirements])
    return commands


def require_all() -> None:
    """Raise LabError, with the commands that help, when anything is missing."""
    if not sys.platform.startswith("linux") or os.uname().machine != "x86_64":
        raise LabError(f"the lab boots a Linux kernel for x86_64; this is {sys.platform} on {os.uname().machine}")
    missing = [need for need in needs() if not need.found]
    if not missing:
        return
    width = max(len(need.what) for need in missing)
    lines = [f"  {need.what:<{width}}  {need.purpose} (package {need.package})" for need in missing]
    commands = [f"  {shlex.join(command)}" for command in install_commands(missing)]
    raise LabError(
        "\n".join(
            [
                "the lab needs what is not on this machine:",
                *lines,
                "`simmig lab install` installs it, by:",
                *commands,
            ]
        )
    )
