"""Which addresses the sockets of processes are bound to, as Linux tells."""

import contextlib
import ipaddress
import os
import sys
from pathlib import Path

ANYWHERE = {"0.0.0.0", "::"}


def addresses_of(pid: int) -> set[str]:
    """The local IP addresses of all TCP and UDP sockets that a process has open."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):  # closed meanwhile
            kind, _, rest = os.readlink(descriptor).partition(":[")
            if kind == "socket":
                inodes.add(rest.rstrip("]"))
    found = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                found.add(_address(fields[1].partition(":")[0]))
    return found


def _address(digits: str) -> str:
    """The address of its digits in these tables: words of 32 bits in the machine's own order."""
    words = [int(digits[start : start + 8], 16) for start in range(0, len(digits), 8)]
    address = ipaddress.ip_address(b"".join(word.to_bytes(4, sys.byteorder) for word in words))
    return str(getattr(address, "ipv4_mapped", None) or address)


def assert_on_loopback(pids) -> None:
    """Every process has sockets, and all of them are bound to loopback addresses."""
    for pid in pids:
        addresses = addresses_of(pid)
        assert addresses, f"process {pid} has no socket"
        for address in addresses:
            assert ipaddress.ip_address(address).is_loopback, f"process {pid} is on {address}"
