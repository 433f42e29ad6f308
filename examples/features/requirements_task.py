def spell(n: int) -> str:
    from num2words import num2words

    return num2words(n)
