"""The ledgers that the contract is held against: each made on a folder, which stands for one store."""

from __future__ import annotations

from fanfold.ledgers.sqlite import SqliteLedger

LEDGERS = {"sqlite": lambda folder, clock: SqliteLedger(f"sqlite:///{folder}/ledger.db", clock=clock)}
