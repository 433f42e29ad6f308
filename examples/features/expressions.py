from datetime import date


def show(best: int, mean: float, passed: list[int], deadline: date, label: str, month: str) -> dict[str, str]:
    return {"best": f"{best} of {mean:.2f}", "passed": str(passed), "deadline": str(deadline), "label": label, "month": month}
