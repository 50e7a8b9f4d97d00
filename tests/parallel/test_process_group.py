"""Processes stop, decide and end together; here they are threads with a store between them."""

import random
import signal
import socket
import threading
import time
from collections.abc import Callable

import jax
import pytest

from convnets import UserError
from convnets.errors import LostProcessError
from convnets.parallel import process_group
from convnets.parallel.process_group import ProcessGroup

TORN = "INTERNAL: Gloo all-reduce failed: Read error [127.0.0.1]:1: Connection reset by peer"


class Store:
    """What the tests need of JAX's client: one for all the threads."""

    def __init__(self):
        self.values, self.changed = {}, threading.Condition()

    def key_value_set(self, key, value, allow_overwrite=False):
        with self.changed:
            if key in self.values and not allow_overwrite:
                raise jax.errors.JaxRuntimeError(f"ALREADY_EXISTS: {key}")
            self.values[key] = value
            self.changed.notify_all()

    def key_value_try_get(self, key):
        with self.changed:
            if key not in self.values:
                raise jax.errors.JaxRuntimeError(f"NOT_FOUND: {key}")
            return self.values[key]

    def key_value_dir_get(self, folder):
        with self.changed:
            return [(key, value) for key, value in self.values.items() if key.startswith(folder)]

    def blocking_key_value_get(self, key, milliseconds):
        with self.changed:
            self.changed.wait_for(lambda: key in self.values)
            return self.values[key]

    def wait_at_barrier(self, name, milliseconds):
        with self.changed:
            self.values[name] = self.values.get(name, 0) + 1
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.values[name] % self.count == 0)


def run_in_each(count: int, work: Callable[[ProcessGroup], object]) -> list:
    """What `work` returns, or raises, in each of so many groups at the same time."""
    store, outcomes = Store(), [None] * count
    store.count = count
    groups = [ProcessGroup(store, index, count) for index in range(count)]

    def call(index):
        try:
            outcomes[index] = work(groups[index])
        except Exception as error:
            outcomes[index] = error

    threads = [threading.Thread(target=call, args=(index,)) for index in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in groups:
        one._closed = True
        one._wake.set()
        one._thread.join()
    return outcomes


def die(own):
    """From here on it gives no sign of life."""
    own._closed = True
    own._thread.join()


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(process_group, "EVERY", 0.05)
    monkeypatch.setattr(process_group, "SILENT", 2.0)


@pytest.mark.parametrize("who", [0, 2])
def test_a_signal_to_one_stops_all_after_the_same_step(who):
    barrier = threading.Barrier(3)

    def work(own):
        rng, came = random.Random(own.index), []
        with own.stopping(lambda: came[0] if came else None) as signal_after:
            for number in range(2_000):
                if number % 2 == 0:  # as a collective: nobody is further ahead than two steps
                    barrier.wait(60)
                time.sleep(rng.random() / 2_000)
                if own.index == who and number == 57:
                    came.append(signal.SIGTERM)
                if (found := signal_after(number)) is not None:
                    return number, found
        return None

    numbers, signals = zip(*run_in_each(3, work))  # one that is left behind raises
    assert len(set(numbers)) == 1
    assert numbers[0] > 57
    assert set(signals) == {signal.SIGTERM}


def test_a_signal_after_the_last_step_of_another_stops_nobody():
    ended = threading.Event()

    def work(own):
        came = []
        with own.stopping(lambda: came[0] if came else None) as signal_after:
            if own.index == 0:
                found = [signal_after(number) for number in range(10)]
            else:
                ended.wait()
                came.append(signal.SIGINT)
                found = [signal_after(0)]
                time.sleep(0.5)
                found += [signal_after(number) for number in range(1, 10)]
        if own.index == 0:
            ended.set()
        return found

    assert run_in_each(2, work) == [[None] * 10, [None] * 10]


def test_every_training_has_its_own_signal():
    def work(own):
        found = []
        for training in range(3):
            came = [signal.SIGTERM] if training == own.index == 1 else []
            with own.stopping(lambda came=came: came[0] if came else None) as signal_after:
                for number in range(300):
                    time.sleep(0.001)
                    if signal_after(number):
                        break
                found.append(number)
            own.wait_for_others()
        return found

    first, second, third = zip(*run_in_each(2, work))
    assert first == third == (299, 299)
    assert second[0] == second[1] < 299


def test_process_0_decides_and_its_refusals_are_everyones():
    calls = []

    def work(own):
        def decision():
            calls.append(own.index)
            return {"text": "é" * 3_000_000, "number": 0.1}

        def refuse():
            raise UserError("the workdir holds a run already")

        decided = own.decide(decision)
        with pytest.raises(UserError, match="^the workdir holds a run already$"):
            own.decide(refuse)
        return decided

    for decided in run_in_each(3, work):
        assert decided == {"text": "é" * 3_000_000, "number": 0.1}
    assert calls == [0]


def test_the_one_that_is_silent_is_named_by_all_others():
    def work(own):
        if own.index == 2:
            die(own)
            return None
        with own.ending_together(lambda: "; start again"):
            time.sleep(1)
            raise jax.errors.JaxRuntimeError(TORN)

    one, two, dead, three = run_in_each(4, work)
    assert dead is None
    assert str(one) == str(two) == str(three)
    assert isinstance(one, LostProcessError)
    assert str(one).startswith("process 2 of 4 (")
    assert str(one).endswith(") died; start again")


def test_other_errors_pass_and_are_told_to_those_whose_collectives_they_tore():
    def work(own):
        with own.ending_together():
            if own.index == 1:
                raise UserError("no such file")
            time.sleep(0.5)
            raise jax.errors.JaxRuntimeError(TORN)

    zero, one = run_in_each(2, work)
    assert type(one) is type(zero) is UserError  # not lost: the user can mend it, on both
    assert str(one) == "no such file"
    assert str(zero).startswith("process 1 of 2 (")
    assert str(zero).endswith(") ended with: no such file")


def test_a_connection_lost_between_living_processes_is_said_so():
    def work(own):
        with own.ending_together():
            if own.index == 0:
                raise jax.errors.JaxRuntimeError(TORN)
            time.sleep(1)

    zero, _ = run_in_each(2, work)
    assert "lost a connection, though all are alive: INTERNAL: Gloo" in str(zero)


def test_errors_of_jax_that_are_none_of_a_collective_pass():
    def work(own):
        with own.ending_together():
            raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    for error in run_in_each(2, work):
        assert not isinstance(error, LostProcessError)
        assert "Out of memory" in str(error)


def test_an_error_that_came_to_all_lets_them_go_on_together(monkeypatch):
    monkeypatch.setattr(process_group, "GRACE", 0.5)
    monkeypatch.setattr(process_group.os, "_exit", lambda code: pytest.fail("was ended"))

    def diverge(own):
        with own.ending_together(), own.ending_together():  # as `fit` does within the command
            time.sleep(0.2 * own.index)
            raise UserError("the loss is not finite")

    def work(own):
        with pytest.raises(UserError, match="not finite"):
            diverge(own)
        with own.ending_together():
            assert not own.failed
            if own.index == 2:
                die(own)
                return None
            time.sleep(1.5)
            raise jax.errors.JaxRuntimeError(TORN)

    one, two, _ = run_in_each(3, work)
    assert str(one) == str(two)
    assert str(one).startswith("process 2 of 3 (")
    assert str(one).endswith(" died")


def test_a_process_that_is_lost_ends_those_that_wait_for_it(monkeypatch, capfd):
    """Their collectives are not torn: they hang. Outside of a session nobody is ended."""
    ended = threading.Event()
    monkeypatch.setattr(process_group, "GRACE", 0.5)
    monkeypatch.setattr(process_group, "LOST", 1.0)
    monkeypatch.setattr(process_group.os, "_exit", lambda code: ended.set())

    def work(own):
        if own.index == 1:
            die(own)
            return
        time.sleep(2)
        assert not ended.is_set()
        with own.ending_together():
            assert ended.wait(60)
            own._told.add(own._session)

    assert run_in_each(3, work) == [None] * 3
    said = capfd.readouterr().err
    assert said.startswith("convnets: process 1 of 3 (")
    assert " gave no sign of life for 1 s; this process ends too\n" in said
    assert "process 0 of 3" not in said


def test_a_process_that_waits_in_vain_is_ended(monkeypatch, capfd):
    ended = []
    monkeypatch.setattr(process_group, "GRACE", 0.5)
    monkeypatch.setattr(process_group.os, "_exit", lambda code: ended.append(code))

    def work(own):
        if own.index == 0:
            own.end("process 0 of 2 ended with: disk full", process_group.USERS_OWN)
            return
        while not ended:  # in a collective that never ends
            time.sleep(0.01)
        own._told.add(0)

    run_in_each(2, work)
    assert ended[0] == process_group.USERS_OWN
    said = "convnets: process 0 of 2 ended with: disk full; this process ends too\n"
    assert said in capfd.readouterr().err


def test_processes_that_part_are_told_where_and_both_end():
    """The second would wait for a decision that never comes, and the first for the second."""

    def work(own):
        if own.index == 0:
            own.decide(lambda: {"step": 3}, "the config")
            while (end := own._end()) is None:
                time.sleep(0.01)
            return end
        with pytest.raises(UserError) as refused:
            own.decide(lambda: None, "the settings")
        assert own.failed
        return process_group.USERS_OWN, str(refused.value)

    zero, one = run_in_each(2, work)
    assert zero == one
    said = "process 0 has come to the config, process 1 to the settings: start all processes with"
    assert zero[1].startswith(said)


def test_a_process_that_leaves_while_others_go_on_is_told():
    def work(own):
        if own.index == 0:
            own.decide(lambda: None, "the settings")
            while own._end() is None:
                time.sleep(0.01)
        else:
            own.leave()
        return own.failed

    assert run_in_each(2, work) == [False, True]


def test_what_one_process_refuses_is_refused_by_all():
    def work(own):
        def check():
            if own.index:
                raise UserError(f"process {own.index} has other settings")

        own.agree(lambda: None, "the data")
        with pytest.raises(UserError, match="^process 1 has other settings$"):
            own.agree(check, "the settings")
        assert not own.failed
        own.wait_for_others()

    assert run_in_each(3, work) == [None] * 3


def test_after_a_failure_the_coordinator_outlives_the_others():
    """Not only their leaving: what is left of their end would be aborted."""
    store, (near, far) = Store(), socket.socketpair()
    groups = [ProcessGroup(store, 0, 2, [near]), ProcessGroup(store, 1, 2)]
    for own in reversed(groups):
        own.failed = True
    groups[1].leave()
    leaving = threading.Thread(target=groups[0].leave)
    leaving.start()
    leaving.join(1)
    assert leaving.is_alive()
    far.close()
    leaving.join(60)
    assert not leaving.is_alive()
