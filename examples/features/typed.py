from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Literal, TypedDict


class Status(Enum):
    OPEN = "open"
    PAID = "paid"


@dataclass
class Order:
    id: int
    day: date
    amount: float
    status: Status
    note: str | None = None


class Total(TypedDict):
    count: int
    gross: float


def orders(since: date, kind: Literal["online", "shop"]) -> list[Order]:
    print(f"{kind} orders since {since:%d %B %Y}")
    return [
        Order(id=1, day=since, amount=10.0, status=Status.PAID),
        Order(id=2, day=since.replace(day=2), amount=32.5, status=Status.OPEN, note="call first"),
    ]


def total(orders: list[Order], *, rate: float = 1.0) -> Total:
    return {"count": len(orders), "gross": round(sum(order.amount for order in orders) * rate, 2)}
