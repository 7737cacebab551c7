"""pyverbs, found and loaded when it is first asked for, as one namespace.

pyverbs is no dependency that pip could bring: it must be of the same age as the system's libibverbs, and so it
comes with that, from the distribution, into a directory that a virtual environment does not look into.
"""

from __future__ import annotations

import ctypes
import functools
import importlib
import importlib.machinery
import importlib.util
import mmap
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from simmig.verbs.rdma.errors import RdmaUnavailable

_DIST_PACKAGES = ("/usr/lib/python3/dist-packages", "/usr/lib/python3/site-packages")
_CHANNEL = "anon_inode:[infinibandevent]"
_CM_CHANNEL = "/dev/infiniband/rdma_cm"


@dataclass(slots=True)
class Binding:
    """pyverbs' classes: those of `simmig.verbs.api.Verbs`, and what connecting and looking at devices needs."""

    enums: ModuleType
    PD: Any
    MR: Any
    CompChannel: Any
    CQ: Any
    QP: Any
    QPCap: Any
    QPInitAttr: Any
    QPAttr: Any
    SGE: Any
    SendWR: Any
    RecvWR: Any
    PyverbsError: type[Exception]
    Context: Any
    get_device_list: Any
    CMID: Any
    CMEvent: Any
    CMEventChannel: Any
    AddrInfo: Any
    ConnParam: Any
    cm_enums: ModuleType


@functools.cache
def load() -> Binding:
    """The installed pyverbs. Raises RdmaUnavailable when there is none, or none that fits this system."""
    _find()
    try:
        device, addr, cq, mr, pd, qp, wr, cmid, error = (
            importlib.import_module(f"pyverbs.{name}")
            for name in ("device", "addr", "cq", "mr", "pd", "qp", "wr", "cmid", "pyverbs_error")
        )
        enums = _either("pyverbs.enums", "pyverbs.libibverbs_enums")
        cm_enums = _either("pyverbs.cm_enums", "pyverbs.librdmacm_enums")
    except ImportError as reason:
        raise RdmaUnavailable(_explain(reason)) from reason
    del addr  # pyverbs.qp looks for it
    return Binding(
        enums=enums,
        PD=pd.PD,
        MR=_mapped(mr.MR),
        CompChannel=_watchable(cq.CompChannel),
        CQ=cq.CQ,
        QP=qp.QP,
        QPCap=qp.QPCap,
        QPInitAttr=qp.QPInitAttr,
        QPAttr=qp.QPAttr,
        SGE=wr.SGE,
        SendWR=wr.SendWR,
        RecvWR=wr.RecvWR,
        PyverbsError=error.PyverbsError,
        Context=device.Context,
        get_device_list=device.get_device_list,
        CMID=cmid.CMID,
        CMEvent=cmid.CMEvent,
        CMEventChannel=cmid.CMEventChannel,
        AddrInfo=cmid.AddrInfo,
        ConnParam=cmid.ConnParam,
        cm_enums=cm_enums,
    )


def cm_channel(binding: Binding) -> tuple[Any, int]:
    """A new event channel of the connection manager, and its descriptor, non-blocking."""
    before = _descriptors(_CM_CHANNEL)
    channel = binding.CMEventChannel()
    descriptor = _new_descriptor(before, _CM_CHANNEL)
    os.set_blocking(descriptor, False)
    return channel, descriptor


def _watchable(base: Any) -> Any:
    class CompChannel(base):  # type: ignore[misc]
        """pyverbs' channel, non-blocking (else a wait would hold the GIL), and with `fd` in every version."""

        def __init__(self, context: Any) -> None:
            before = _descriptors(_CHANNEL)
            super().__init__(context)
            self.fd: int = _new_descriptor(before, _CHANNEL)
            os.set_blocking(self.fd, False)

    return CompChannel


def _mapped(base: Any) -> Any:
    class MR(base):  # type: ignore[misc]
        """pyverbs' region, one without an address in a mapping of its own.

        pyverbs would take aligned memory from the heap, which Debian's glibc (2.36) hardly finds again once it was
        freed: half a MiB more with every migration.
        """

        def __init__(self, creator: Any, length: int, access: int, address: int | None = None) -> None:
            self._memory = None if address is not None else mmap.mmap(-1, length)
            if self._memory is not None:
                address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
            super().__init__(creator, length, access, address)

        def close(self) -> None:
            """Deregister, and give the mapping back. Again is a no-op."""
            super().close()
            memory = getattr(self, "_memory", None)  # gone when it is freed and was never closed
            if memory is not None:
                memory.close()

    return MR


def _descriptors(target: str) -> set[int]:
    """This process's descriptors of that kind: pyverbs of 2023 has them and does not tell."""
    found = set()
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}") == target:
                found.add(int(name))
        except FileNotFoundError:
            continue  # the listing's own
    return found


def _new_descriptor(before: set[int], target: str) -> int:
    (descriptor,) = _descriptors(target) - before
    return descriptor


def _find() -> None:
    """Let Python find the distribution's pyverbs, and nothing else of what lies beside it."""
    if "pyverbs" in sys.modules or importlib.util.find_spec("pyverbs") is not None:
        return
    spec = importlib.machinery.PathFinder.find_spec("pyverbs", list(_DIST_PACKAGES))
    if spec is None or spec.loader is None:
        raise RdmaUnavailable(
            "pyverbs is not installed; on Debian: apt-get install python3-pyverbs ibverbs-providers"
        )
    module = importlib.util.module_from_spec(spec)
    sys.modules["pyverbs"] = module
    spec.loader.exec_module(module)


def _either(new: str, old: str) -> ModuleType:
    try:
        return importlib.import_module(new)
    except ModuleNotFoundError:
        return importlib.import_module(old)


def _explain(reason: ImportError) -> str:
    """What an import that failed means: libibverbs of another age, or extensions for another Python."""
    private = re.search(r"version [`'](\w+)' not found", str(reason))
    if private is not None:
        return (
            f"this pyverbs was built for another libibverbs ({private[1]} is not in the installed one); take the "
            "distribution's (on Debian: apt-get install python3-pyverbs) and pip uninstall pyverbs"
        )
    home = Path(next(iter(getattr(sys.modules.get("pyverbs"), "__path__", [])), "."))
    built_for = sorted(path.name.split(".")[1] for path in home.glob("device.*.so"))
    ours = importlib.machinery.EXTENSION_SUFFIXES[0].strip(".").split(".")[0]
    if built_for and ours not in built_for:
        return (
            f"the pyverbs in {home} is built for {', '.join(built_for)}, {sys.executable} is {ours}; "
            "run simmig with the distribution's Python, or one of the same version"
        )
    return f"pyverbs cannot be loaded: {reason}"
