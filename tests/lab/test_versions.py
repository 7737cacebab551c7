"""Kernels and QEMUs in versions that are not the system's, and where they come from: stand-ins for apt, dpkg."""

import os
from pathlib import Path

import pytest

from simmig.cli.main import main
from simmig.lab import debian, qemu, userland
from simmig.lab import kernel as kernels
from simmig.lab.errors import LabError

# What the real ones were seen to print, for a system with 6.1 and 7.2 and backports with 6.12 and 10.0.
APT = r"""#!/bin/sh
echo "$0 $*" >> {log}
case "$*" in
*update*) ;;
*indextargets*) echo "mirror:/security bookworm-security Debian"; echo "mirror:/own bookworm Debian" ;;
*linux-image-amd64/*) echo "Depends: linux-image-6.12.95+deb12-amd64 (= 6.12.95-1~bpo12+1)" ;;
*linux-image-amd64) echo "Depends: linux-image-6.1.0-56-amd64 (= 6.1.192-2)" ;;
*qemu-system-x86/*show* | *show*qemu-system-x86/*) echo "Version: 1:10.0.2+ds-2~bpo12+1" ;;
*download\ linux-image*) : > some.deb ;;
*install*) for word; do case $word in Dir::Cache::archives=*) at=${{word#*=}};; esac; done
    case "$*" in *pyverbs*) for name in acl_2 base-files_13 bash_5; do : > "$at/$name.deb"; done ;;
    *) : > "$at/qemu.deb" ;; esac ;;
*) exit 100 ;;
esac
"""
DPKG = """#!/bin/sh
[ -d "${3%/*}" ] || exit 2
case $2 in
*qemu.deb) mkdir -p "$3/usr/bin"; printf '#!/bin/sh\\n%s' 'SAYS' > "$3/usr/bin/qemu-system-x86_64"
    chmod +x "$3/usr/bin/qemu-system-x86_64" ;;
*) for release in 6.1.0-56-amd64 6.12.95+deb12-amd64; do
    mkdir -p "$3/boot" "$3/lib/modules/$release"; : > "$3/boot/vmlinuz-$release"
    for module in MODULES; do : > "$3/lib/modules/$release/$module.ko.xz"; done; done ;;
esac
"""

DPKG_OF_A_RELEASE = """#!/bin/sh
mkdir -p "$3/etc" "$3/usr/share/doc" "$3/usr/bin"
ln -sf python3.13 "$3/usr/bin/python3"
echo "${2##*/}" >> "$3/order"
"""


class System:
    """A Debian 12 whose programs are stand-ins."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.cache = directory / "simmig/lab"
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.log = directory / "log"
        self.program("apt-get", APT.format(log=self.log))
        self.program("apt-cache", APT.format(log=self.log))
        self.program("depmod", "#!/bin/sh")
        self.qemu_says('echo "QEMU emulator version 10.0.2 ($*)"')
        self.program("qemu-system-x86_64", '#!/bin/sh\necho "QEMU emulator version 7.2.22 (Debian)"')
        monkeypatch.setenv("XDG_CACHE_HOME", str(directory))
        monkeypatch.setattr(debian, "program", lambda name: str(self.bin / name))
        monkeypatch.setattr(qemu, "program", lambda name: str(self.bin / name))
        monkeypatch.setattr(debian, "codename", lambda: "bookworm")

    def program(self, name: str, script: str) -> None:
        (self.bin / name).write_text(script + "\n")
        (self.bin / name).chmod(0o755)

    def qemu_says(self, script: str) -> None:
        self.program("dpkg", DPKG.replace("MODULES", " ".join(kernels.MODULES)).replace("SAYS", script))

    @property
    def asked(self) -> list[str]:
        return self.log.read_text().splitlines() if self.log.exists() else []

    def left(self) -> list[str]:
        """Every file and directory in the cache that is no whole kernel or QEMU."""
        homes = [self.cache / "kernel", self.cache / "backports/kernel", self.cache / "backports/qemu"]
        return [name for home in homes if home.exists() for name in os.listdir(home)]


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> System:
    return System(tmp_path, monkeypatch)


def _tell(text: str) -> None:
    pass


def test_the_newest_of_the_systems_own_kernels_counts_unless_a_series_is_named(system: System) -> None:
    assert kernels.cached_kernel() is None
    for name in (
        "kernel/6.1.0-9-amd64",
        "kernel/6.1.0-56-amd64",
        "kernel/.new-half",
        "backports/kernel/6.12.9-amd64",
    ):
        (system.cache / name).mkdir(parents=True)
    for series, release in ((None, "6.1.0-56-amd64"), ("6.1", "6.1.0-56-amd64"), ("6.12", "6.12.9-amd64")):
        newest = kernels.cached_kernel(series)
        assert newest is not None
        assert newest.release == release
    assert kernels.cached_kernel("6.9") is None
    assert system.asked == []


def test_the_cache_follows_xdg(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "relative")
    assert kernels.cache_dir() == Path.home() / ".cache/simmig/lab"


@pytest.mark.parametrize("series", [None, "6.1"])
def test_the_systems_own_kernel_comes_by_its_own_apt(system: System, series: str | None) -> None:
    assert kernels.kernel(_tell, series).root == system.cache / "kernel/6.1.0-56-amd64"
    assert not any(" -o " in line for line in system.asked)
    asked = len(system.asked)
    kernels.kernel(_tell, series)
    assert len(system.asked) == asked, "once is enough"


def test_another_kernel_comes_from_backports_of_the_systems_mirror(system: System) -> None:
    found = kernels.kernel(_tell, "6.12")
    assert found.root == system.cache / "backports/kernel/6.12.95+deb12-amd64"
    assert found.image.is_file()
    update = next(line for line in system.asked if line.endswith("update"))
    for setting in ("Dir::Etc::sourcelist", "Dir::State", "Dir::Cache"):
        assert f"{setting}={system.cache}/backports/kernel/.apt-" in update
    assert "Dir::Etc::sourceparts=/dev/null" in update
    assert system.left() == [found.release], "apt's own files are gone again"
    own = kernels.cached_kernel()
    assert own is None, "a backport is nobody's default"


def test_sources_for_backports_name_the_systems_mirror(system: System) -> None:
    with debian.backports(system.cache) as apt:
        listed = next(word for word in apt.options if "sourcelist" in word).partition("=")[2]
        lines = Path(listed).read_text().splitlines()
    assert [line.split()[-3:] for line in lines] == [
        ["mirror:/own", "bookworm", "main"],
        ["mirror:/own", "bookworm-backports", "main"],
    ]


def test_a_kernel_that_debian_does_not_have_is_told_with_what_it_has(system: System) -> None:
    with pytest.raises(LabError, match=r"no kernel 6\.9 .* has 6\.1\.0-56-amd64 and 6\.12\.95\+deb12-amd64"):
        kernels.kernel(_tell, "6.9")
    assert system.left() == []


def test_a_download_that_fails_leaves_no_half_kernel(system: System) -> None:
    system.program("apt-get", "#!/bin/sh\nexit 100")
    with pytest.raises(LabError, match=r"download linux-image-6\.1\.0-56-amd64 failed"):
        kernels.kernel(_tell)
    assert system.left() == []


def test_an_apt_without_lists_is_told_to_update(system: System) -> None:
    system.program("apt-cache", "#!/bin/sh\necho 'E: No packages found' >&2; exit 100")
    with pytest.raises(LabError, match=r"no kernel package linux-image-amd64.*apt-get update"):
        kernels.kernel(_tell)


def test_qemu_as_installed_needs_nothing(system: System) -> None:
    assert qemu.version("7.2") == [str(system.bin / "qemu-system-x86_64")]
    assert system.asked == []


def test_another_qemu_is_unpacked_beside_it_and_finds_what_it_brings(system: System) -> None:
    with pytest.raises(LabError, match=r"simmig lab install --qemu 10\.0"):
        qemu.version("10.0")
    command = qemu.provide("10.0", _tell)
    assert command == [str(system.cache / "backports/qemu/10.0/qemu-system-x86_64")]
    said = debian.run(command[0], "-M", "none")
    root = system.cache / "backports/qemu/10.0/root"
    assert f"-L {root}/usr/share/qemu -L {root}/usr/share/seabios -M none" in said
    assert system.left() == ["10.0"]
    asked = len(system.asked)
    assert qemu.provide("10.0", _tell) == command
    assert len(system.asked) == asked, "once is enough"


@pytest.mark.parametrize(
    ("wanted", "says", "why"),
    [
        ("9.1", "", r"bookworm-backports has QEMU 10\.0, not 9\.1"),
        ("10.0", "echo libnone.so: cannot open >&2; exit 127", r"does not run: libnone\.so: cannot open"),
    ],
)
def test_a_qemu_that_is_not_there_or_does_not_run_is_not_kept(
    system: System, wanted: str, says: str, why: str
) -> None:
    system.qemu_says(says)
    with pytest.raises(LabError, match=why):
        qemu.provide(wanted, _tell)
    assert system.left() == []


def test_another_debian_is_unpacked_whole_the_links_first(system: System, monkeypatch: pytest.MonkeyPatch) -> None:
    system.program("dpkg", DPKG_OF_A_RELEASE)
    for name in ("pip", "env"):
        system.program(name, f'#!/bin/sh\necho "{name} $*" >> {system.log}')
    monkeypatch.setattr("sys.executable", "pip")
    told: list[str] = []
    root = userland.provide("13", told.append)
    assert root == system.cache / "debian/13"
    assert (root / "order").read_text().splitlines() == ["base-files_13.deb", "acl_2.deb", "bash_5.deb"]
    assert (root / "etc/passwd").read_text().startswith("root:x:0:0:")
    assert not (root / "usr/share/doc").exists()
    assert os.listdir(root.parent) == ["13"]
    install = next(line for line in system.asked if " install " in line)
    assert "python3-pyverbs" in install
    assert f"Dir::State::status={root.parent}/.new-" in install, "nothing of it is installed yet"
    pip = next(line for line in system.asked if line.startswith("pip"))
    assert "--python-version 3.13" in pip
    assert "numpy>=" in pip
    assert "pytest>=" in pip
    assert "mypy" not in pip
    asked = len(system.asked)
    assert userland.provide("13", told.append) == root
    assert len(system.asked) == asked, "once is enough"


def test_releases_that_are_not_known_are_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["install", "--debian", "sid"], ["--debian", "sid", "true"]):
        assert main(["lab", *command]) == 2
        assert '--debian: "sid" is no release that the lab knows; it knows 13' in capsys.readouterr().err


def test_versions_that_are_none_are_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["lab", "install", "--qemu", "latest"]) == 2
    assert '--qemu: "latest" is not written like 10.0' in capsys.readouterr().err
    assert main(["lab", "install", "--kernel", "6"]) == 2
    assert '--kernel: "6" is not written like 6.12' in capsys.readouterr().err


def test_check_names_where_other_versions_are_or_how_to_get_them(
    system: System, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["lab", "check"])
    told = capsys.readouterr().out
    for line in (
        "kernel 6.12: not here (simmig lab install --kernel 6.12)",
        "Debian 13: not here",
        "QEMU 10.0: not",
    ):
        assert f"also     {line}" in told
    kernels.kernel(_tell, "6.12")
    qemu.provide("10.0", _tell)
    main(["lab", "check"])
    told = capsys.readouterr().out
    assert f"also     kernel 6.12: {system.cache}/backports/kernel/6.12.95+deb12-amd64" in told
    assert f"also     QEMU 10.0: {system.cache}/backports/qemu/10.0/qemu-system-x86_64" in told
