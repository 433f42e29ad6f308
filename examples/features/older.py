def double(n: int, by: int) -> int:
    return n * by
