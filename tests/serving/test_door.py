"""Connections of a socket that several workers share, here several doors of one process."""

import asyncio
import resource
import socket

from nbkeras.serving.door import ABSENT, Acceptor, shared_counts


class Protocol(asyncio.Protocol):
    """A connection that is in a set while it is open."""

    def __init__(self, own):
        self.own = own

    def connection_made(self, transport):
        self.transport = transport
        self.own.add(self)

    def connection_lost(self, exception):
        self.own.discard(self)


class Doors:
    """Doors of one socket, and the connections that came through each."""

    def __init__(self, number):
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.counts = shared_counts(number)
        self.found = [set() for _ in range(number)]
        self.doors = [None] * number
        self.clients = []

    def open(self, index):
        own = self.found[index]
        self.doors[index] = Acceptor(self.listening.dup(), lambda: Protocol(own), own, self.counts, index)

    def connect(self, number):
        address = self.listening.getsockname()
        self.clients += [socket.create_connection(address, timeout=10) for _ in range(number)]

    async def numbers(self, together):
        """The number of connections of each, when there are so many together."""
        for _ in range(500):
            if sum(map(len, self.found)) == together:
                return [len(own) for own in self.found]
            await asyncio.sleep(0.01)
        raise AssertionError([len(own) for own in self.found])

    def close(self):
        for door in self.doors:
            if door is not None:
                door.close()
        for connection in set().union(*self.found):
            connection.transport.close()
        for client in self.clients:
            client.close()
        self.listening.close()


def run(number, test):
    async def main():
        doors = Doors(number)
        try:
            await test(doors)
        finally:
            doors.close()
            await asyncio.sleep(0)

    asyncio.run(main())


def test_each_has_about_the_same_number_of_a_burst():
    async def test(doors):
        for index in range(3):
            doors.open(index)
        doors.connect(60)
        assert max(await doors.numbers(60)) <= 23

    run(3, test)


def test_a_burst_is_taken_in_few_turns():
    async def test(doors):
        doors.open(0)
        doors.connect(100)
        for _ in range(12):
            await asyncio.sleep(0)
        assert len(doors.found[0]) == 100

    run(1, test)


def test_one_that_is_not_there_is_not_waited_for():
    async def test(doors):
        doors.open(0)
        assert list(doors.counts) == [0, ABSENT]
        doors.connect(20)
        assert await doors.numbers(20) == [20, 0]
        doors.open(1)
        doors.connect(20)
        assert (await doors.numbers(40))[1] >= 18

    run(2, test)


def test_one_that_does_nothing_holds_up_no_connection():
    async def test(doors):
        doors.open(0)
        doors.counts[1] = 0  # it hangs
        doors.connect(20)
        assert await doors.numbers(20) == [20, 0]

    run(2, test)


def test_all_that_wait_are_taken_at_the_end():
    async def test(doors):
        doors.open(0)
        doors.connect(50)
        doors.doors[0].close()
        doors.doors[0] = None
        assert await doors.numbers(50) == [50] and doors.counts[0] == ABSENT

    run(1, test)


def test_a_process_with_all_the_files_that_it_may_open_goes_on_later(monkeypatch):
    monkeypatch.setattr("nbkeras.serving.door._FULL_PAUSE", 0.05)

    async def test(doors):
        doors.open(0)
        doors.connect(3)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            await asyncio.sleep(0.12)
            assert not doors.found[0]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await doors.numbers(3) == [3]

    run(1, test)
