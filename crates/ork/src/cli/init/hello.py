from typing import TypedDict


class Greeting(TypedDict):
    text: str
    length: int


def greet(name: str) -> Greeting:
    text = f"hello {name}"
    print(f"greeting {name}")
    return {"text": text, "length": len(text)}
