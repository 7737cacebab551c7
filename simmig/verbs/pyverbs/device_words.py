"""Words for what devices and ports say of themselves, as pyverbs has them; users import them from `device`."""

from __future__ import annotations

from typing import Any

from simmig.verbs.pyverbs import enums as e
from simmig.verbs.pyverbs.utils import be64toh

_MTUS = {1: 256, 2: 512, 3: 1024, 4: 2048, 5: 4096}
_STATES = {0: "NOP", 1: "Down", 2: "Init", 3: "Armed", 4: "Active", 5: "Defer"}
_PHYSICAL = {
    1: "Sleep",
    2: "Polling",
    3: "Disabled",
    4: "Port configuration training",
    5: "Link up",
    6: "Link error recovery",
    7: "Phy test",
}
_WIDTHS = {1: "1X", 2: "4X", 4: "8X", 8: "12X", 16: "2X"}
_SPEEDS = {
    0: "0.0 Gbps",
    1: "2.5 Gbps",
    2: "5.0 Gbps",
    4: "5.0 Gbps",
    8: "10.0 Gbps",
    16: "14.0 Gbps",
    32: "25.0 Gbps",
    64: "50.0 Gbps",
    128: "100.0 Gbps",
    256: "200.0 Gbps",
}
_NODES = {1: "CA", 2: "Switch", 3: "Router", 4: "RNIC", 5: "USNIC", 6: "USNIC UDP"}
_TRANSPORTS = {0: "IB", 1: "IWARP", 2: "USNIC", 3: "USNIC UDP"}
_GIDS = {0: "IB", 1: "RoCEv1", 2: "RoCEv2"}
_LAYERS = {0: "Unspecified", 1: "InfiniBand", 2: "Ethernet"}


def _numbered(words: dict[int, Any], value: int, what: str) -> str:
    return f"{words[value]} ({int(value)})" if value in words else what


def _names(kind: Any) -> dict[int, str]:
    return {int(member): name for name, member in kind.__members__.items()}


def translate_gid_type(gid_type: int) -> str:
    """A kind of GID."""
    return _GIDS.get(gid_type, f"Unknown gid_type ({gid_type})")


def guid_format(num: int) -> str:
    """A GUID in network order, as four words."""
    digits = f"{be64toh(num):016x}"
    return ":".join(digits[at : at + 4] for at in range(0, 16, 4))


def guid_to_hex(node_guid: int) -> str:
    """A GUID as digits."""
    return f"{node_guid:x}"


def translate_transport_type(transport_type: int) -> str:
    """A wire protocol."""
    return _TRANSPORTS.get(transport_type, "Unknown")


def translate_node_type(node_type: int) -> str:
    """A kind of device."""
    return _NODES.get(node_type, "Unknown")


def port_state_to_str(port_state: int) -> str:
    """A port's state."""
    return _numbered(_STATES, port_state, f"Invalid state ({port_state})")


def translate_mtu(mtu: int) -> str:
    """A path MTU."""
    return _numbered(_MTUS, mtu, f"Invalid MTU ({mtu})")


def translate_link_layer(ll: int) -> str:
    """A link layer."""
    return _LAYERS.get(ll, f"Invalid link layer ({ll})")


def translate_port_cap_flags(flags: int) -> str:
    """A port's capabilities."""
    return str_from_flags(flags, _names(e.ibv_port_cap_flags))


def translate_port_cap_flags2(flags: int) -> str:
    """More of them."""
    return str_from_flags(flags, _names(e.ibv_port_cap_flags2))


def translate_device_caps(flags: int) -> str:
    """A device's capabilities."""
    return str_from_flags(flags, _names(e.ibv_device_cap_flags))


def str_from_flags(flags: int, dictionary: dict[int, str]) -> str:
    """The words of the bits that are set, a line each."""
    return "\n  " + "".join(f"{word}\n  " for bit, word in dictionary.items() if flags & bit)


def phys_state_to_str(phys: int) -> str:
    """A port's physical state."""
    return _numbered(_PHYSICAL, phys, "Invalid physical state")


def width_to_str(width: int) -> str:
    """Lanes of a port."""
    return _numbered(_WIDTHS, width, "Invalid width")


def speed_to_str(active_speed: int, active_speed_ex: int = 0) -> str:
    """Speed of a lane; the second, which newer versions have, counts where it is not 0."""
    return _numbered(_SPEEDS, active_speed_ex or active_speed, "Invalid speed")


def translate_event_type(event_type: int) -> str:
    """An asynchronous event."""
    return _names(e.ibv_event_type).get(int(event_type), f"Unknown event_type ({event_type})")
