# The tasks of the conformance suite, as Python does them: `name_n` is the task with a number.
import os
import signal
import subprocess
import sys
import time


def __getattr__(name):
    task, _, n = name.rpartition("_")
    if task not in globals():
        raise AttributeError(name)
    return lambda **inputs: globals()[task](int(n))


def shell(task, *args):
    subprocess.run(["bash", "tasks.sh", task, *args], check=True)


def fine(n):
    print("hello")
    print("oops", file=sys.stderr)


def value(n):
    return {"rows": 3, "name": "é"}


def nothing(n):
    pass


def environment(n):
    for name, text in os.environ.items():
        print(f"{name}={text}")


def exit_three(n):
    print("last words", file=sys.stderr)
    sys.exit(3)


def killed(n):
    os.kill(os.getpid(), signal.SIGKILL)


def nap():
    subprocess.run(["sleep", os.environ["nap"]])


def sleep(n):
    print("ready")
    nap()


def stubborn(n):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("ready")
    while True:
        nap()


def polite(n):
    def bye(*_):
        print("bye")
        sys.exit(0)

    signal.signal(signal.SIGTERM, bye)
    print("ready")
    nap()


def grandchild(n):
    subprocess.Popen(["sleep", os.environ["nap"]])


def daemon(n):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.execvp("sleep", ["sleep", os.environ["nap"]])
        os._exit(0)
    os.wait()


def naked_daemon(n):
    shell("naked_daemon")


def stopped_with_daemons(n):
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    shell("naked_daemons_alone")
    subprocess.Popen(["sleep", os.environ["nap"]])
    print("ready")
    while True:
        time.sleep(1000)


def brood(n):
    shell("brood")


def binary(n):
    sys.stdout.buffer.write(b"a\377\376b\r\n\n\000x\n")


def structured(n):
    print('{"level": "warning", "message": "careful", "n": 1}')
    print('{"level": "ERROR", "message": "bad"}')
    print('{"message": "no level"}')
    print('{"level": "debug"}')


def flood(n):
    block = (b"0123456789" * 7 + b"\n") * 1000
    while n > 0:
        n -= sys.stdout.buffer.write(block[:n])


def one_line(n):
    block = b"x" * (1 << 20)
    while n > 0:
        n -= sys.stdout.buffer.write(block[:n])
    print()
    print("after")
