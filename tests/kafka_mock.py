"""librdkafka's own mock cluster: joins at once, and answers with the errors that a test asks for.

The Python client doesn't offer its functions, so they are called in the library that it brings. It is a cluster on
loopback ports like any other: other processes may connect.
"""

from __future__ import annotations

import ctypes
from contextlib import contextmanager
from pathlib import Path

import confluent_kafka

from kafka_broker import Cluster

PRODUCE, FETCH, OFFSET_COMMIT, JOIN_GROUP, HEARTBEAT = 0, 1, 8, 11, 12
"""Kinds of requests, by their numbers in the protocol."""
NOT_COORDINATOR, ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCE = 16, 22, 25, 27
MSG_SIZE_TOO_LARGE, TOPIC_AUTHORIZATION_FAILED, NOT_LEADER, INVALID_RECORD = 10, 29, 6, 87
"""Errors, by theirs."""

_PRODUCER = 0
_BROKER = 1


def _library():
    package = Path(confluent_kafka.__file__).parent
    found = [*package.parent.glob("confluent_kafka.libs/librdkafka*"), *package.glob(".dylibs/librdkafka*")]
    library = ctypes.CDLL(str(found[0]))
    for name in ("rd_kafka_conf_new", "rd_kafka_new", "rd_kafka_mock_cluster_new"):
        getattr(library, name).restype = ctypes.c_void_p
    library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
    return library


class MockCluster(Cluster):
    """One broker, in this process."""

    def __init__(self):
        self._library = _library()
        text = ctypes.create_string_buffer(512)
        configuration = ctypes.c_void_p(self._library.rd_kafka_conf_new())
        self._library.rd_kafka_conf_set(configuration, b"log_level", b"0", text, len(text))
        self._client = ctypes.c_void_p(self._library.rd_kafka_new(_PRODUCER, configuration, text, len(text)))
        self._cluster = ctypes.c_void_p(self._library.rd_kafka_mock_cluster_new(self._client, 1))
        self._library.rd_kafka_mock_group_initial_rebalance_delay_ms(self._cluster, 0)
        super().__init__(self._library.rd_kafka_mock_cluster_bootstraps(self._cluster).decode())

    def make_topic(self, name, partitions):
        """Create a topic."""
        assert self._library.rd_kafka_mock_topic_create(self._cluster, name.encode(), partitions, 1) == 0

    def answer(self, request, *errors):
        """Answer the next requests of a kind with these errors, one each."""
        codes = (ctypes.c_int * len(errors))(*errors)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(errors), codes)

    @contextmanager
    def down(self):
        """Within the block nobody answers: connections are closed, and new ones refused. What it has stays."""
        assert self._library.rd_kafka_mock_broker_set_down(self._cluster, _BROKER) == 0
        try:
            yield
        finally:
            assert self._library.rd_kafka_mock_broker_set_up(self._cluster, _BROKER) == 0

    def close(self):
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._client)


@contextmanager
def mock_cluster():
    """A mock cluster for the length of a `with` block."""
    cluster = MockCluster()
    try:
        yield cluster
    finally:
        cluster.close()
