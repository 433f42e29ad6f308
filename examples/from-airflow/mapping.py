def add_one(x: int) -> int:
    return x + 1


def double(x: int) -> int:
    return x * 2


def sum_it(values: list[int]) -> int:
    return sum(values)
