import ork


def work() -> int:
    context = ork.context()
    ork.log.info("started", task=context.task, attempt=context.attempt)
    print("a print is a line as well")
    ork.heartbeat()
    return context.attempt
