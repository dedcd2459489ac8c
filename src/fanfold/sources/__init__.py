"""Where events come from, and where completions go: Kafka in, Kafka out. `docs/kafka.md` says how it is used."""

from fanfold.sources.record import Record

__all__ = ["Record"]
