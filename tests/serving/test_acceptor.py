"""Connections of a socket that several workers share, here several acceptors of one process."""

import asyncio
import resource
import socket

from in_memory import until

from nbkeras.serving.acceptor import ABSENT, Acceptor, shared_counts


class Protocol(asyncio.Protocol):
    """A connection that is in a set while it is open."""

    def __init__(self, own):
        self.own = own

    def connection_made(self, transport):
        self.transport = transport
        self.own.add(self)

    def connection_lost(self, exception):
        self.own.discard(self)


class Acceptors:
    """Acceptors of one socket, and the connections that each accepted."""

    def __init__(self, number):
        self.listening = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.counts = shared_counts(number)
        self.found = [set() for _ in range(number)]
        self.acceptors = [None] * number
        self.clients = []

    def open(self, index):
        own = self.found[index]
        self.acceptors[index] = Acceptor(self.listening.dup(), lambda: Protocol(own), own, self.counts, index)

    def connect(self, number):
        address = self.listening.getsockname()
        self.clients += [socket.create_connection(address, timeout=10) for _ in range(number)]

    async def numbers(self, together):
        """The number of connections of each, when there are so many together."""
        await until(lambda: sum(map(len, self.found)) == together, lambda: self.found)
        return [len(own) for own in self.found]

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exception):
        for acceptor in self.acceptors:
            if acceptor is not None:
                acceptor.close()
        for connection in set().union(*self.found):
            connection.transport.close()
        for client in self.clients:
            client.close()
        self.listening.close()
        await asyncio.sleep(0)


async def test_each_has_about_the_same_number_of_a_burst():
    async with Acceptors(3) as acceptors:
        for index in range(3):
            acceptors.open(index)
        acceptors.connect(60)
        assert max(await acceptors.numbers(60)) <= 23


async def test_a_burst_is_taken_in_few_turns():
    async with Acceptors(1) as acceptors:
        acceptors.open(0)
        acceptors.connect(100)
        for _ in range(12):
            await asyncio.sleep(0)
        assert len(acceptors.found[0]) == 100


async def test_one_that_is_not_there_is_not_waited_for():
    async with Acceptors(2) as acceptors:
        acceptors.open(0)
        assert list(acceptors.counts) == [0, ABSENT]
        acceptors.connect(20)
        assert await acceptors.numbers(20) == [20, 0]
        acceptors.open(1)
        acceptors.connect(20)
        assert (await acceptors.numbers(40))[1] >= 18


async def test_one_that_does_nothing_holds_up_no_connection():
    async with Acceptors(2) as acceptors:
        acceptors.open(0)
        acceptors.counts[1] = 0  # it hangs
        acceptors.connect(20)
        assert await acceptors.numbers(20) == [20, 0]


async def test_all_that_wait_are_taken_at_the_end():
    async with Acceptors(1) as acceptors:
        acceptors.open(0)
        acceptors.connect(50)
        acceptors.acceptors[0].close()
        acceptors.acceptors[0] = None
        assert await acceptors.numbers(50) == [50] and acceptors.counts[0] == ABSENT


async def test_a_process_with_all_the_files_that_it_may_open_goes_on_later(monkeypatch):
    monkeypatch.setattr("nbkeras.serving.acceptor._FULL_PAUSE", 0.05)

    async with Acceptors(1) as acceptors:
        acceptors.open(0)
        acceptors.connect(3)
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
        try:
            await asyncio.sleep(0.12)
            assert not acceptors.found[0]
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert await acceptors.numbers(3) == [3]
