"""What Kafka needs beyond Fanfold itself."""

from __future__ import annotations

import importlib

from fanfold.errors import MissingExtraError


def require_kafka() -> None:
    """Make sure that the library is there.

    Raises:
        MissingExtraError: it isn't; the text is the command that installs it.
    """
    try:
        importlib.import_module("confluent_kafka")
    except ImportError as error:
        raise MissingExtraError(
            "Kafka needs the library confluent-kafka, which isn't installed here: pip install 'fanfold[kafka]'"
        ) from error
