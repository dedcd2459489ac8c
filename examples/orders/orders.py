"""Orders: each order is an event; its checks run in parallel, and the order is confirmed when all are over.

python examples/orders/orders.py                # three orders, worked on in this process
fanfold worker orders:app                       # or, in this folder, workers as processes of their own
"""

from __future__ import annotations

from dataclasses import dataclass

from fanfold import Fanfold, FanOut, Reject, TaskSpec, testing

app = Fanfold("sqlite:///orders.db", entity="order_id")

STOCK = {"pen": 120, "desk": 2}


@dataclass
class Line:
    """One line of an order: validated before the task runs."""

    item: str
    quantity: int


@app.task("reserve")
def reserve(task_config: Line) -> int:
    """Reserve stock; an order for more than there is can't succeed however often it is tried."""
    left = STOCK.get(task_config.item, 0) - task_config.quantity
    if left < 0:
        raise Reject(f"only {STOCK.get(task_config.item, 0)} of {task_config.item!r} in stock")
    return left


@app.task("price")
async def price(task_config: Line) -> float:
    """Price a line."""
    return {"pen": 1.5, "desk": 249.0}.get(task_config.item, 0.0) * task_config.quantity


@app.task("fraud", timeout=30)
async def fraud(order_id: str, metadata: dict[str, str]) -> str:
    """Look at who ordered."""
    return "clear" if metadata["customer"] != "mallory" else f"{order_id} needs a look"


@app.on_complete
async def confirm(fan_out: FanOut) -> str:
    """Confirm or refuse, once, when every check is over."""
    verdict = "refused" if fan_out.failures else "confirmed"
    reasons = "; ".join(failure.message for failure in fan_out.failures.values())
    print(f"{fan_out.entity_id} {verdict} {fan_out.results} {reasons}".rstrip())
    return verdict


def main() -> None:
    """Enqueue three orders on a throw-away queue and work on them here."""
    with testing.embedded(app):
        for order_id, item, quantity, customer in (
            ("order-1", "pen", 10, "alice"),
            ("order-2", "desk", 3, "bob"),
            ("order-3", "desk", 1, "mallory"),
        ):
            line = {"item": item, "quantity": quantity}
            tasks = [TaskSpec("reserve", line), TaskSpec("price", line), TaskSpec("fraud")]
            app.enqueue(order_id, tasks, metadata={"customer": customer}, event_id=f"orders:{order_id}")
        testing.drain(app)


if __name__ == "__main__":
    main()
