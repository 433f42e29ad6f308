"""Prices, with tax."""


def gross(net: float, rate: float = 1.19) -> float:
    return round(net * rate, 2)
