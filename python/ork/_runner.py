"""Runs functions for Ork: one warm parent that forks a child per attempt, or one cold process.

An attempt is one file without a name (a memfd): it holds the request as JSON, and afterwards the
answer: `V` and the returned value, or `E` and what went wrong. Whatever is imported here is paid
for by each start, so it is little.
"""

import os
import posix
import sys
import time

HERE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
REQUEST = 17
# How long threads may outlive the function before they are named, in seconds.
PATIENCE = 1.0


def warm():
    """Forks a child for each request on standard input, until that is closed.

    A request is `F`, an id and a mark (8 bytes each), and the descriptors of stdout, stderr and the
    attempt's file. Answers are a letter, the id and 4 bytes: `P` the pid, `S` the exit status as
    `wait` has it, `X` the error number of a fork that failed. The child itself gives its pid before
    it does anything for the attempt: if the parent is killed, an attempt without a pid has not
    begun once all ends of the socket are closed.
    """
    import _socket
    import gc
    import resource
    import select

    _codecs()
    control = _socket.socket(fileno=posix.dup(0))
    _close_stdin()
    room = _socket.CMSG_SPACE(16)
    poll = select.poll()
    poll.register(control.fileno(), select.POLLIN)
    children = {}
    gc.collect()
    gc.freeze()
    while True:
        for fd, _ in poll.poll():
            if fd in children:
                pid, ident = children.pop(fd)
                poll.unregister(fd)
                posix.close(fd)
                status = posix.waitpid(pid, 0)[1]
                _answer(control, b"S", ident, status)
                continue
            head, extra, _, _ = control.recvmsg(REQUEST, room, _socket.MSG_CMSG_CLOEXEC)
            if len(head) < REQUEST:
                posix._exit(0)
            fds = _descriptors(extra)
            ident = head[1:9]
            try:
                pid = posix.fork()
            except OSError as error:
                _answer(control, b"X", ident, error.errno or 0)
            else:
                if pid == 0:
                    _child(control, ident, resource, int.from_bytes(head[9:17], "little"), fds)
                child = posix.pidfd_open(pid)
                children[child] = (pid, ident)
                poll.register(child, select.POLLIN)
            for fd in fds:
                posix.close(fd)


def _answer(control, kind, ident, number):
    control.sendall(kind + ident + number.to_bytes(4, "little", signed=True))


def _descriptors(extra):
    fds = []
    for _, _, data in extra:
        fds += [int.from_bytes(data[i : i + 4], sys.byteorder) for i in range(0, len(data), 4)]
    return fds


def _child(control, ident, resource, mark, fds):
    status = 70
    try:
        posix.setpgid(0, 0)
        try:
            hard = resource.getrlimit(resource.RLIMIT_RTTIME)[1]
            resource.setrlimit(resource.RLIMIT_RTTIME, (mark, hard))
        except (OSError, ValueError):
            pass
        _answer(control, b"P", ident, posix.getpid())
        control.close()
        stdout, stderr, memo = fds
        posix.dup2(stdout, 1)
        posix.dup2(stderr, 2)
        posix.close(stdout)
        posix.close(stderr)
        status = perform(memo)
    finally:
        posix._exit(status)


def cold():
    """Performs the one request on standard input."""
    _codecs()
    memo = posix.dup(0)
    posix.set_inheritable(memo, False)
    _close_stdin()
    posix._exit(perform(memo))


def _close_stdin():
    null = posix.open("/dev/null", posix.O_RDONLY)
    posix.dup2(null, 0)
    posix.close(null)


_loads = None
_dumps = None


def _codecs():
    """The C parts of `json`, without the modules around them where that works."""
    global _loads, _dumps
    try:
        loads, dumps = _bare_codecs()
        if dumps(loads('{"a":[1,2.5,"\\u00e9",null]}')) != '{"a":[1,2.5,"\u00e9",null]}':
            raise ValueError
    except Exception:
        import json

        loads = json.loads
        dumps = lambda value: json.dumps(
            value, default=_plain, ensure_ascii=False, separators=(",", ":")
        )
    _loads, _dumps = loads, dumps


def _bare_codecs():
    import _json

    class Settings:
        strict = True
        object_hook = object_pairs_hook = None
        parse_float = float
        parse_int = int
        parse_constant = float
        memo = {}

    scan = _json.make_scanner(Settings)

    def dumps(value):
        encode = _json.make_encoder(
            {}, _plain, _json.encode_basestring, None, ":", ",", False, False, True
        )
        return "".join(encode(value, 0))

    return lambda text: scan(text, 0)[0], dumps


def _plain(value):
    from ork._convert import plain

    value = plain(value)
    _check_keys(value)
    return value


class Failure(Exception):
    """What is reported instead of a value."""

    def __init__(self, kind, message, details=None, exit_code=None):
        self.report = {"kind": kind, "message": message}
        if details is not None:
            self.report["details"] = details
        if exit_code is not None:
            self.report["exit_code"] = exit_code
        super().__init__(message)


def perform(memo):
    """Does what the attempt's file asks, writes the answer there, and gives the exit code."""
    request = _loads(_read(memo).decode())
    try:
        answer = b"V" + _encoded(_call(request))
        status = 0
    except Failure as failure:
        report = failure.report
        status = report.get("exit_code") or 1
        answer = b"E" + _dumps(report).encode("utf-8", "replace")
    _finish()
    try:
        posix.ftruncate(memo, 0)
        _write(memo, answer)
    except OSError:
        words = b"the answer cannot be given: the code closed descriptors that it had not opened\n"
        posix.write(2, words)
        return 70
    return status & 255


def _read(memo):
    size = posix.fstat(memo).st_size
    data = b""
    while len(data) < size:
        part = posix.pread(memo, size - len(data), len(data))
        if not part:
            break
        data += part
    return data


def _write(memo, data):
    view, at = memoryview(data), 0
    while at < len(data):
        at += posix.pwrite(memo, view[at:], at)


def _finish():
    """What an interpreter does at its end: threads, exit handlers, what is still buffered."""
    threading = sys.modules.get("threading")
    if threading is not None:
        try:
            _tell_of_threads(threading)
            threading._shutdown()
        except BaseException:
            _log_traceback()
    if "atexit" in sys.modules:
        sys.modules["atexit"]._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:
            pass


def _tell_of_threads(threading):
    """Says which threads the process is waiting for, if they do not end soon."""
    main = threading.main_thread()
    others = [t for t in threading.enumerate() if t is not main and not t.daemon]
    until = time.monotonic() + PATIENCE if others else 0
    for thread in others:
        thread.join(max(0, until - time.monotonic()))
    left = ", ".join(thread.name for thread in others if thread.is_alive())
    if left:
        text = f"the function has ended, but threads that are no daemons keep its process: {left}\n"
        sys.stderr.write(text)
        sys.stderr.flush()


def _call(request):
    _settle(request)
    function = _find(request)
    try:
        from ork import _convert

        arguments = _convert.arguments(function, request["inputs"])
    except ValueError as error:
        raise Failure("input_invalid", str(error)) from None
    except BaseException as error:
        raise _raised(error, request) from None
    try:
        value = function(**arguments)
        if type(value).__name__ == "coroutine":
            import asyncio

            value = asyncio.run(value)
    except BaseException as error:
        raise _raised(error, request) from None
    if type(value).__name__ in ("generator", "async_generator"):
        message = f"`{request['target']}` is a generator: return a value, such as a list, for `yield`"
        raise Failure("output_invalid", message)
    return value


def _settle(request):
    """The attempt's own environment, folder and search path."""
    env = request["env"]
    if env is not None:
        zone = os.environ.get("TZ")
        os.environ.clear()
        os.environ.update(env)
        if env.get("TZ") != zone:
            time.tzset()
    root = request["root"]
    try:
        posix.chdir(root)
    except OSError as error:
        raise Failure("not_started", f"the code root {root} is not there: {error.strerror}") from None
    if HERE in sys.path:
        sys.path.remove(HERE)
    sys.path.insert(0, root)
    sys.path.append(HERE)
    sys.pycache_prefix = request["pycache"]
    sys.argv = [request["target"]]
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(encoding="utf-8", errors="backslashreplace", line_buffering=True)


def _find(request):
    """The function; its module is loaded."""
    name, where = request["function"], request["target"]
    try:
        module = _module(request)
    except SyntaxError as error:
        raise _syntax(error, request) from None
    except ModuleNotFoundError as error:
        message = f"no module named `{error.name}` for {where}"
        hint = "; list what provides it under `requirements`"
        details = _log_traceback(error)
        raise Failure("not_started", message + hint, details) from None
    except Failure:
        raise
    except BaseException as error:
        raise _raised(error, request) from None
    function = module
    for part in name.split("."):
        function = getattr(function, part, None)
        if function is None:
            raise Failure("not_started", f"{where} has no `{name}`{_nearest(module, name)}")
    if not callable(function):
        raise Failure("not_started", f"`{name}` in {where} is of type {type(function).__name__}, no function")
    return function


def _nearest(module, name):
    import difflib

    near = difflib.get_close_matches(name, [n for n in vars(module) if n[:1] != "_"], 1)
    return f"; did you mean `{near[0]}`?" if near else ""


def _module(request):
    if request["file"] is None:
        return _import(request["module"])
    from _frozen_importlib import module_from_spec
    from _frozen_importlib_external import spec_from_file_location

    file = request["file"]
    path = os.path.join(request["root"], file)
    if not os.path.isfile(path):
        raise Failure("not_started", f"there is no file {path}")
    folder, base = os.path.split(path)
    stem = base[:-3] if base.endswith(".py") else base
    if os.path.exists(os.path.join(folder, "__init__.py")) and base.endswith(".py"):
        return _import(file[:-3].replace("/", "."))
    if folder != request["root"]:
        sys.path.insert(1, folder)
    if stem in sys.modules or stem in sys.stdlib_module_names:
        stem = "_" + stem
    spec = spec_from_file_location(stem, path)
    if spec is None:
        raise Failure("not_started", f"{path} is no Python file: its name must end in `.py`")
    module = module_from_spec(spec)
    sys.modules[stem] = module
    spec.loader.exec_module(module)
    return module


def _import(name):
    __import__(name)
    return sys.modules[name]


def _check_keys(value):
    """JSON would make texts of other keys in silence."""
    rest, seen = [value], set()
    while rest:
        value = rest.pop()
        if not isinstance(value, (dict, list, tuple)) or id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, dict):
            for key in value:
                if not isinstance(key, str):
                    kind = type(key).__name__
                    raise TypeError(f"the key {key!r} is of type {kind}, and keys are texts: use `str(…)`")
            value = value.values()
        rest.extend(value)


def _encoded(value):
    try:
        _check_keys(value)
        return _dumps(value).encode()
    except UnicodeEncodeError as error:
        text = error.object[max(0, error.start - 20) : error.start]
        message = f"the returned value holds half a character (a lone surrogate) after {text!r}"
        raise Failure("output_invalid", message) from None
    except RecursionError:
        raise Failure("output_invalid", "the returned value is nested too deep") from None
    except (TypeError, ValueError, OverflowError) as error:
        message = f"the returned value has no form in JSON: {error}"
        raise Failure("output_invalid", message) from None


def _raised(error, request):
    """The failure that an exception means."""
    where = f"`{request['target']}`"
    if isinstance(error, SystemExit):
        return _exited(error, where)
    if isinstance(error, SyntaxError) and error.filename:
        return _syntax(error, request)
    if _is_not_ready(error):
        return Failure("failure", f"not ready: {error}", exit_code=75)
    details = _log_traceback(error)
    name = type(error).__name__
    try:
        text = str(error)
    except Exception:
        text = "<its text cannot be made>"
    message = f"{name}: {text}" if text else name
    place = _place(error, request["root"])
    return Failure("failure", f"{message} ({place})" if place else message, details, 1)


def _is_not_ready(error):
    """Whether it is an `ork.NotReady`, or one of its kind; `ork` is imported by user code alone."""
    ork = sys.modules.get("ork")
    not_ready = getattr(ork, "NotReady", None)
    return isinstance(not_ready, type) and isinstance(error, not_ready)


def _exited(error, where):
    code = error.code
    if code is not None and not isinstance(code, int):
        print(code, file=sys.stderr)
        code = 1
    code = (code or 0) & 255
    if code == 0:
        return Failure("exited", f"{where} ended by sys.exit(0)", exit_code=0)
    return Failure("failure", f"{where} exited with code {code}", exit_code=code)


def _syntax(error, request):
    file = error.filename or "?"
    root = request["root"] + "/"
    file = file[len(root) :] if file.startswith(root) else file
    place = f"{file}:{error.lineno}:{error.offset}"
    details = _log_traceback(error, frames=False)
    return Failure("not_started", f"{type(error).__name__} at {place}: {error.msg}", details)


def _place(error, root):
    """Where user code raised, or called what did."""
    trace, place = error.__traceback__, None
    while trace is not None:
        code = trace.tb_frame.f_code
        if code.co_filename.startswith(root):
            file = code.co_filename[len(root) :].lstrip("/")
            place = f"{file}:{trace.tb_lineno} in {code.co_name}"
        trace = trace.tb_next
    return place


def _log_traceback(error=None, frames=True):
    """Writes a traceback to the log, without the frames of this file at its head."""
    import traceback

    error = error if error is not None else sys.exc_info()[1]
    trace = error.__traceback__ if frames else None
    ours = (__file__, "<frozen importlib._bootstrap>", "<frozen importlib._bootstrap_external>")
    while trace is not None and trace.tb_frame.f_code.co_filename in ours:
        trace = trace.tb_next
    text = "".join(traceback.format_exception(type(error), error, trace))
    try:
        sys.stdout.flush()
        sys.stderr.write(text)
        sys.stderr.flush()
    except Exception:
        pass
    return text[-16_384:].rstrip()
