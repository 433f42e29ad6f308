"""What a task may ask of Ork. A plain function needs none of it, and no import.

    import ork

    def load(day):
        ork.log.info("loading", day=day)
        print(ork.context().attempt)
"""

import os

__all__ = ["Context", "NotReady", "context", "heartbeat", "log"]


class Context:
    """Who the running task is. All values are text, except `attempt`."""

    def __init__(self, env):
        #: The run's id.
        self.run_id = env["ORK_RUN_ID"]
        #: The instance's path in the run: `load`, `region[2]/convert`.
        self.task = env["ORK_TASK"]
        #: Counts from 1.
        self.attempt = int(env["ORK_ATTEMPT"])
        #: The workflow's name.
        self.workflow = env["ORK_WORKFLOW"]
        #: The project's name.
        self.project = env["ORK_PROJECT"]
        #: What the run is for: ISO 8601 with an offset.
        self.logical_time = env["ORK_LOGICAL_TIME"]
        #: The same for every retry, another after a deliberate rerun.
        self.idempotency_key = env["ORK_IDEMPOTENCY_KEY"]
        self._artifacts = env["ORK_ARTIFACTS"]

    @property
    def artifacts(self):
        """The folder whose files are kept with the attempt, as a `pathlib.Path`. It is made when
        first asked for."""
        from pathlib import Path

        folder = Path(self._artifacts)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def __repr__(self):
        return f"Context(run_id={self.run_id!r}, task={self.task!r}, attempt={self.attempt})"


def context():
    """The running task; `RuntimeError` outside of one."""
    if "ORK_RUN_ID" not in os.environ:
        raise RuntimeError("ork.context() is for code that runs as a task of Ork")
    return Context(os.environ)


def heartbeat():
    """Says that the task is alive and getting on. Outside of a task it does nothing."""
    path = os.environ.get("ORK_HEARTBEAT")
    if path:
        with open(path, "ab"):
            os.utime(path)


class NotReady(Exception):
    """To be raised by a task with `poll`: what it looks for is not there yet. It is tried again
    later, and costs no retry."""


class Log:
    """Structured log lines: a level, a message, and fields that are shown beside it."""

    def debug(self, message, **fields):
        """Detail."""
        self._write("debug", message, fields)

    def info(self, message, **fields):
        """As it should be."""
        self._write("info", message, fields)

    def warning(self, message, **fields):
        """Worth a look."""
        self._write("warn", message, fields)

    def error(self, message, **fields):
        """Wrong."""
        self._write("error", message, fields)

    def _write(self, level, message, fields):
        import json
        import sys

        line = {"level": level, "message": str(message), **fields}
        print(json.dumps(line, default=str, ensure_ascii=False), file=sys.stderr, flush=True)


log = Log()
