"""Which addresses and ports processes and their children have, as Linux's /proc tells."""

import ipaddress
import os
from pathlib import Path

LISTENING = "0A"


def assert_on_loopback(pids) -> None:
    """Every process has sockets, and all of them are bound to loopback addresses."""
    for pid in pids:
        addresses = {address for address, *_ in _bound([pid])}
        assert addresses, f"process {pid} has no socket"
        for address in addresses:
            assert ipaddress.ip_address(address).is_loopback, f"process {pid} is on {address}"


def listening(pid: int) -> list[tuple[str, int]]:
    """Addresses and ports that the processes of a tree listen on."""
    found = {(address, port) for address, port, state in _bound(tree(pid)) if state == LISTENING}
    return sorted(found)


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    below = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
            except OSError:  # it is gone
                continue
            parent = int(stat.rpartition(")")[2].split()[1])
            below.setdefault(parent, []).append(int(entry.name))
    found, waiting = [], [pid]
    while waiting:
        found.append(waiting.pop())
        waiting += below.get(found[-1], [])
    return found


def _bound(pids):
    """Address, port and state of every TCP and UDP socket that processes have open."""
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    for table in ("tcp", "tcp6", "udp", "udp6"):
        for line in Path("/proc/net", table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[9] in inodes:
                address, port = fields[1].split(":")
                yield _address(address), int(port, 16), fields[3]


def _sockets(pid):
    try:
        links = [os.readlink(link) for link in Path("/proc", str(pid), "fd").iterdir()]
    except OSError:
        return []
    return [link[8:-1] for link in links if link.startswith("socket:[")]


def _address(text):
    """Of the kernel's hexadecimal words, each in the machine's order of bytes."""
    words = [bytes.fromhex(text[i : i + 8])[::-1] for i in range(0, len(text), 8)]
    address = ipaddress.ip_address(b"".join(words))
    return str(getattr(address, "ipv4_mapped", None) or address)
