"""A Linux guest for `live_vm.py`: Debian's kernel (the lab's own) and busybox, which count on the serial port.

Every eight numbers it sums up a file in its memory, and says BAD where that is another one.
"""

from __future__ import annotations

import lzma
import shutil
import subprocess
from pathlib import Path

from simmig.lab.kernel import kernel

FIRMWARE = Path("/usr/share/seabios/bios-256k.bin")
RAM_BYTES = 112 << 20
_APPEND = "console=ttyS0 quiet nokaslr mitigations=off tsc=reliable no_timer_check"
_XZ = b"\xfd7zXZ\x00"
_INIT = r"""#!/bin/busybox sh
/bin/busybox stty -opost
sum=$(/bin/busybox md5sum /bin/busybox)
n=0
while :; do
    n=$((n + 1))
    printf '%08X\n' $n
    [ $((n % 8)) != 0 ] || [ "$(/bin/busybox md5sum /bin/busybox)" = "$sum" ] || printf 'BAD %08X\n' $n
    read -t 1 nothing
done
"""


def arguments(directory: Path) -> tuple[str, ...]:
    """QEMU's arguments for it; what they name is written into `directory`.

    The kernel is unpacked here: emulated, that is most of a boot.
    """
    image = kernel(print).image.read_bytes()
    unpacked = lzma.LZMADecompressor().decompress(image[image.index(_XZ) :])
    (directory / "vmlinux").write_bytes(unpacked)
    root = directory / "root"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", root / "bin")
    (root / "init").write_text(_INIT)
    (root / "init").chmod(0o755)
    names = "".join(f"{path.relative_to(root)}\n" for path in sorted(root.rglob("*")))
    with open(directory / "initrd", "wb") as initrd:
        command = ["busybox", "cpio", "-o", "-H", "newc"]
        subprocess.run(
            command, cwd=root, input=names.encode(), stdout=initrd, stderr=subprocess.DEVNULL, check=True
        )
    return (
        *("-kernel", str(directory / "vmlinux"), "-initrd", str(directory / "initrd")),
        *("-append", _APPEND),
    )
