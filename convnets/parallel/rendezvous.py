"""How the processes of one run find each other, before JAX takes over.

JAX itself ends a process with a stack trace when its coordinator does not answer, or when another
process is missing. So they meet first on the coordinator's own port, in plain sockets, where what
is wrong can be said: who is missing, who is there twice, who was started with another number.
"""

import contextlib
import json
import socket
import time
from typing import NamedTuple

from ..errors import UserError

LONGEST = 1000  # bytes of a message
NAMED = 8  # processes at most that a message names
READING = 5  # seconds that a caller has to say who it is
RETRYING = 0.2  # seconds between two calls


def parse_address(coordinator: str) -> tuple[str, int]:
    """Host and port of `HOST:PORT`. Raises UserError for anything else.

    >>> parse_address("10.0.0.1:8476"), parse_address("[::1]:8476")
    (('10.0.0.1', 8476), ('::1', 8476))
    """
    host, colon, port = str(coordinator).rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not (host and colon and port.isdecimal() and 0 < int(port) < 2**16):
        raise UserError(f"the coordinator is HOST:PORT, as 10.0.0.1:8476, not {coordinator!r}")
    return host, int(port)


def resolve(host: str, port: int) -> tuple[int, str]:
    """The address family and the numeric address of a host. Raises UserError for an unknown one."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise UserError(f"the coordinator's host {host} is not known: {error.strerror}") from None
    return family, address[0]


class Meeting(NamedTuple):
    """What a process brings from the meeting.

    Attributes:
      address: the numeric one by which it is on the network of the coordinator.
      connections: of process 0 to each of the others, of another to process 0. The system closes
        one when the process at its end is gone, however it went.
    """

    address: str
    connections: list[socket.socket]


def meet(host: str, port: int, count: int, index: int, *, timeout: float) -> Meeting:
    """Waits until all the processes of a run are there.

    Args:
      host, port: where process 0 waits for the others.
      count, index: the number of processes, and which of them this one is.
      timeout: seconds until those that are missing are an error.

    Returns: this process's address and connections, still open.

    Raises: UserError where process 0 does not answer, processes are missing or there twice, or were
    started with another number of them; on process 0, where it cannot wait at that address.
    """
    family, address = resolve(host, port)
    deadline = time.monotonic() + timeout
    if index == 0:
        with _listening(family, host, address, port) as server:
            connections = _receive(server, f"{host}:{port}", count, deadline, timeout)
        return Meeting(address, connections)
    return _report(host, address, port, count, index, deadline, timeout)


def _listening(family, host, address, port):
    try:
        return socket.create_server((address, port), family=family)
    except OSError as error:
        raise UserError(
            f"process 0 cannot wait for the others at {host}:{port}: {error.strerror}; give an "
            "address of this machine and a free port"
        ) from None


def _receive(server, place, count, deadline, timeout):
    """Collects a call from each of the others, then lets all of them go on, or none; returns the
    connections."""
    with contextlib.ExitStack() as stack:
        callers, connections = {}, []
        try:
            while len(callers) < count - 1 or not all(map(is_there, callers.values())):
                index, of, connection = _accept(server, deadline)
                if connection is None:
                    there = {x for x, caller in callers.items() if is_there(caller)}
                    missing = [x for x in range(1, count) if x not in there]
                    raise UserError(
                        f"{_name(missing)} of {count} did not come within {timeout:g} s: start "
                        f"what is missing, and see that it can reach {place}"
                    )
                stack.callback(connection.close)
                connections.append(connection)
                earlier = callers.get(index)
                callers[index] = connection
                if of != count or not 0 < index < count:
                    raise UserError(
                        f"process {index} was started as one of {of}, process 0 as one of {count}"
                    )
                if earlier is not None and is_there(earlier):
                    raise UserError(f"two processes were started as process {index} of {count}")
                if earlier is not None:
                    earlier.close()
        except UserError as error:
            _answer(connections, {"error": str(error)})
            raise
        _answer(connections, {})
        stack.pop_all()
        return list(callers.values())


def _name(indices):
    """`process 1`, `processes 1 and 3`; of many, the first."""
    *shown, last = map(str, indices[:NAMED])
    if len(indices) > NAMED:
        shown, last = [*shown, last], f"{len(indices) - NAMED} more"
    return f"processes {', '.join(shown)} and {last}" if shown else f"process {last}"


def _accept(server, deadline):
    """The next caller's index, its number of processes and its connection; None at the deadline."""
    while (left := deadline - time.monotonic()) > 0:
        server.settimeout(left)
        try:
            connection, _ = server.accept()
        except OSError:
            continue
        try:
            connection.settimeout(READING)
            said = _read(connection)
            connection.setblocking(False)
            return int(said["process"]), int(said["of"]), connection
        except (OSError, ValueError, TypeError, KeyError):  # not one of ours
            connection.close()
    return None, None, None


def _report(host, address, port, count, index, deadline, timeout):
    """Calls process 0 until it answers."""
    while (left := deadline - time.monotonic()) > 0:
        answer = None
        with contextlib.ExitStack() as stack:
            stack.enter_context(contextlib.suppress(OSError, ValueError))
            caller = socket.create_connection((address, port), timeout=min(left, READING))
            stack.enter_context(caller)
            # The system connects a port of its choice to itself, now and then, if nobody listens.
            if caller.getsockname() != caller.getpeername():
                _answer([caller], {"process": index, "of": count})
                caller.settimeout(max(deadline - time.monotonic(), 0) + READING)
                answer = _read(caller)
            if answer == {}:
                stack.pop_all()
                return Meeting(caller.getsockname()[0], [caller])
        if answer is None:
            time.sleep(RETRYING)
        else:
            raise UserError(answer["error"])
    raise UserError(
        f"no process 0 answered at {host}:{port} within {timeout:g} s: start it, and see that "
        f"process {index} can reach that port"
    )


def _read(connection) -> dict:
    """A message: one line of JSON."""
    with connection.makefile("rb") as file:
        message = json.loads(file.readline(LONGEST))
    if not isinstance(message, dict):
        raise ValueError("a message is a JSON object")
    return message


def _answer(connections, message):
    for connection in connections:
        with contextlib.suppress(OSError):
            connection.sendall(json.dumps(message).encode() + b"\n")


def is_there(connection: socket.socket) -> bool:
    """Whether the process at the other end still holds its connection, which does not block."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) != b""
    except BlockingIOError:
        return True
    except OSError:
        return False
