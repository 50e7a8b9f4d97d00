"""The processes of a run find each other, or say who is missing."""

import json
import socket
import threading
import time

import pytest

from convnets import UserError
from convnets.launching import find_free_port
from convnets.parallel.rendezvous import is_there, meet, parse_address

HOST = "127.0.0.1"


def address_of(*given, timeout):
    """What `meet` says of this process, which then is gone."""
    address, connections = meet(*given, timeout=timeout)
    for connection in connections:
        connection.close()
    return address


def meet_all(calls, timeout=20.0):
    """What `meet` returns or raises for each `(count, index)`, called at the same time."""
    port, outcomes = find_free_port(), [None] * len(calls)

    def call(place, count, index):
        try:
            outcomes[place] = address_of(HOST, port, count, index, timeout=timeout)
        except UserError as error:
            outcomes[place] = error

    threads = [threading.Thread(target=call, args=(i, *call_)) for i, call_ in enumerate(calls)]
    for thread in reversed(threads):  # process 0 comes last
        thread.start()
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    return outcomes


def call_when_there(port):
    """A connection to process 0, as soon as it listens."""
    while True:
        try:
            return socket.create_connection((HOST, port))
        except ConnectionRefusedError:
            time.sleep(0.05)


def come_and_go(port):
    """Process 1 of 3, which dies while it waits."""
    with call_when_there(port) as connection:
        connection.sendall(b'{"process": 1, "of": 3}\n')
        time.sleep(0.2)


def test_all_meet_on_loopback():
    assert meet_all([(4, index) for index in range(4)]) == [HOST] * 4
    assert meet_all([(1, 0)]) == [HOST]


def test_process_0_sees_when_another_is_gone():
    port, outcomes = find_free_port(), []
    zero = threading.Thread(target=lambda: outcomes.append(meet(HOST, port, 3, 0, timeout=20)))
    two = threading.Thread(target=lambda: outcomes.append(meet(HOST, port, 3, 2, timeout=20)))
    for thread in (zero, two):
        thread.start()
    one = meet(HOST, port, 3, 1, timeout=20).connections
    for thread in (zero, two):
        thread.join()
    of_zero, of_two = sorted((found.connections for found in outcomes), key=len, reverse=True)
    assert (len(of_zero), len(one), len(of_two)) == (2, 1, 1)
    assert all(map(is_there, of_zero))
    one[0].close()
    while all(map(is_there, of_zero)):
        time.sleep(0.01)
    assert sorted(map(is_there, of_zero)) == [False, True]
    for connection in [*of_zero, *of_two]:
        connection.close()


def test_who_is_missing_is_said_to_those_who_came():
    zero, two = meet_all([(4, 0), (4, 2)], timeout=1.5)
    assert str(zero).startswith("processes 1 and 3 of 4 did not come within 1.5 s: start what is ")
    assert f"can reach {HOST}:" in str(zero)
    assert isinstance(two, UserError)
    assert str(two) == str(zero)
    (zero,) = meet_all([(2, 0)], timeout=0.1)
    assert str(zero).startswith("process 1 of 2 did not come within 0.1 s")
    zero, one = meet_all([(4096, 0), (4096, 1)], timeout=1.5)
    names = ", ".join(map(str, range(2, 10)))
    assert str(zero).startswith(f"processes {names} and 4086 more of 4096 did not come")
    assert str(one) == str(zero)


def test_another_number_of_processes_and_a_process_that_is_there_twice():
    for outcome in meet_all([(3, 0), (2, 1)]):
        assert str(outcome) == "process 1 was started as one of 2, process 0 as one of 3"
    for outcome in meet_all([(3, 0), (3, 1), (3, 1)]):
        assert str(outcome) == "two processes were started as process 1 of 3"


def test_an_unreachable_coordinator_is_given_up_after_the_timeout():
    port, begin = find_free_port(), time.monotonic()
    with pytest.raises(UserError, match=f"no process 0 answered at {HOST}:{port} within 1 s"):
        address_of(HOST, port, 2, 1, timeout=1)
    assert 1 <= time.monotonic() - begin < 30


def test_a_port_that_is_taken_and_an_address_of_another_machine():
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
        with pytest.raises(UserError, match=f"cannot wait for the others at {HOST}:{port}: "):
            address_of(HOST, port, 2, 0, timeout=1)
    with pytest.raises(UserError, match="give an address of this machine and a free port"):
        meet("192.0.2.77", port, 2, 0, timeout=1)
    with pytest.raises(UserError, match="host no-such-host.invalid is not known"):
        meet("no-such-host.invalid", 1, 2, 1, timeout=1)


def test_what_is_no_process_of_the_run_is_not_heard():
    port, outcomes = find_free_port(), []
    zero = threading.Thread(
        target=lambda: outcomes.append(address_of(HOST, port, 2, 0, timeout=20))
    )
    zero.start()
    for words in (b"GET / HTTP/1.1\r\n\r\n", b"[1]\n", json.dumps({"process": 1}).encode(), b""):
        with call_when_there(port) as stranger:
            stranger.sendall(words)
    assert address_of(HOST, port, 2, 1, timeout=20) == HOST
    zero.join()
    assert outcomes == [HOST]


@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_a_process_that_died_waiting_may_come_again(order):
    port, outcomes = find_free_port(), []
    zero = threading.Thread(
        target=lambda: outcomes.append(address_of(HOST, port, 3, 0, timeout=20))
    )
    zero.start()
    come_and_go(port)
    threads = [
        threading.Thread(
            target=lambda i=i: outcomes.append(address_of(HOST, port, 3, i, timeout=20))
        )
        for i in order
    ]
    for thread in threads:
        thread.start()
        time.sleep(0.2)
    for thread in [zero, *threads]:
        thread.join()
    assert outcomes == [HOST] * 3


def test_one_that_died_waiting_is_missing():
    port, outcomes = find_free_port(), []

    def wait(index):
        with pytest.raises(UserError) as error:
            meet(HOST, port, 3, index, timeout=2)
        outcomes.append(str(error.value))

    zero = threading.Thread(target=wait, args=(0,))
    zero.start()
    come_and_go(port)
    wait(2)
    zero.join()
    assert len(set(outcomes)) == 1
    assert outcomes[0].startswith("process 1 of 3 did not come")


@pytest.mark.parametrize(
    "text", ["", "host", "host:", ":80", "host:0", "host:65536", "host:x", "::1", None]
)
def test_a_coordinator_is_host_and_port(text):
    with pytest.raises(UserError, match="the coordinator is HOST:PORT"):
        parse_address(text)
