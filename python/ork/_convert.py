"""Between JSON and the types that functions are annotated with."""

import sys

PLAIN = frozenset({"str", "int", "bool", "list", "dict", "Any", "object", "None"})


class Unfit(ValueError):
    """A value that an annotation does not take."""


def arguments(function, inputs):
    """The inputs as the function's annotations want them."""
    notes = getattr(function, "__annotations__", None) or {}
    wanted = {name: notes[name] for name in inputs if name in notes}
    if all(_is_plain(note) for note in wanted.values()):
        return inputs
    hints = _hints(function, wanted)
    return {name: _read(value, hints.get(name), name) for name, value in inputs.items()}


def _is_plain(note):
    if isinstance(note, str):
        return note in PLAIN
    args = getattr(note, "__args__", ())
    return getattr(note, "__name__", "?") in PLAIN and all(_is_plain(arg) for arg in args)


def _hints(function, wanted):
    import typing

    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:
        # A name that only a type checker sees: such an annotation says nothing here.
        return {name: note for name, note in wanted.items() if not isinstance(note, str)}


def _read(value, note, place):
    try:
        return _as(value, note, place)
    except Unfit:
        raise
    except Exception as error:
        name = getattr(note, "__qualname__", note)
        raise Unfit(f"the input `{place}` is no {name}: {error}") from error


def _as(value, note, place):
    if note is None or value is None:
        return value
    origin = getattr(note, "__origin__", None)
    if origin is not None or type(note).__name__ == "UnionType":
        return _as_generic(value, note, origin, place)
    if hasattr(note, "__supertype__"):
        return _as(value, note.__supertype__, place)
    if not isinstance(note, type):
        return value
    if note is float and type(value) is int:
        return float(value)
    if hasattr(note, "model_validate"):
        return note.model_validate(value)
    if hasattr(note, "__dataclass_fields__"):
        return _as_dataclass(value, note, place)
    if hasattr(note, "__total__") and isinstance(value, dict):
        return _as_fields(value, note, place)
    if hasattr(note, "_fields") and issubclass(note, tuple):
        return _as_named_tuple(value, note, place)
    if isinstance(value, note):
        return value
    return _as_standard(value, note)


def _as_standard(value, note):
    module = getattr(note, "__module__", "")
    if module == "datetime" and note.__name__ in ("date", "datetime", "time"):
        return note.fromisoformat(value)
    enum = sys.modules.get("enum")
    if enum is not None and issubclass(note, enum.Enum):
        return note(value)
    if module.startswith("pathlib") or note.__name__ in ("Decimal", "UUID"):
        return note(value if isinstance(value, str) else str(value))
    if note in (set, frozenset, tuple) and isinstance(value, list):
        return note(value)
    return value


def _as_generic(value, note, origin, place):
    import collections.abc
    import typing

    args = typing.get_args(note)
    if origin is typing.Literal:
        return value
    if origin is typing.Annotated:
        return _as(value, args[0], place)
    if origin is typing.Union or origin is None:
        return _as_union(value, args, place)
    if isinstance(value, dict) and issubclass(origin, collections.abc.Mapping):
        inner = args[1] if len(args) == 2 else None
        return {key: _read(item, inner, f"{place}.{key}") for key, item in value.items()}
    if isinstance(value, list) and issubclass(origin, collections.abc.Iterable):
        return _as_list(value, args, origin, place)
    return value


def _as_list(value, args, origin, place):
    fixed = origin is tuple and Ellipsis not in args and len(args) == len(value)
    types = args if fixed else [args[0] if args else None] * len(value)
    items = [_read(item, ty, f"{place}[{i}]") for i, (item, ty) in enumerate(zip(value, types))]
    return origin(items) if origin in (tuple, set, frozenset) else items


def _as_union(value, args, place):
    last = None
    for arg in args:
        if arg is type(None):
            continue
        try:
            return _read(value, arg, place)
        except Unfit as error:
            last = error
    if last is not None:
        raise last
    return value


def _fields(value, note, place):
    import typing

    if not isinstance(value, dict):
        raise Unfit(f"the input `{place}` is no {note.__qualname__}: it is no object")
    hints = typing.get_type_hints(note, include_extras=True)
    return {key: _read(item, hints.get(key), f"{place}.{key}") for key, item in value.items()}


def _as_fields(value, note, place):
    return _fields(value, note, place)


def _as_dataclass(value, note, place):
    missing = sys.modules["dataclasses"].MISSING if "dataclasses" in sys.modules else None
    fields = note.__dataclass_fields__.items()
    default = {
        name
        for name, field in fields
        if field.default is not missing or field.default_factory is not missing
    }
    return note(**_without_nulls(_fields(value, note, place), note, default))


def _without_nulls(fields, note, default):
    """A field that has a default and may not be null has its default where null was given."""
    if None not in fields.values():
        return fields
    import typing

    hints = typing.get_type_hints(note)
    left_out = {
        name
        for name, value in fields.items()
        if value is None and name in default and not _takes_null(hints.get(name))
    }
    return {name: value for name, value in fields.items() if name not in left_out}


def _takes_null(note):
    if note is None or note is type(None) or getattr(note, "__name__", "") in ("Any", "object"):
        return True
    return any(arg is type(None) or arg is None for arg in getattr(note, "__args__", ()))


def _as_named_tuple(value, note, place):
    if isinstance(value, list):
        value = dict(zip(note._fields, value))
    return note(**_without_nulls(_fields(value, note, place), note, note._field_defaults))


def plain(value):
    """What JSON has no form for, as something that it has one for."""
    cls = type(value)
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    if hasattr(cls, "__dataclass_fields__"):
        return {name: getattr(value, name) for name in cls.__dataclass_fields__}
    if hasattr(value, "isoformat"):
        return value.isoformat()
    enum = sys.modules.get("enum")
    if enum is not None and isinstance(value, enum.Enum):
        return value.value
    if hasattr(value, "__fspath__") or cls.__name__ in ("Decimal", "UUID"):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return list(value)
    if hasattr(value, "tolist") and hasattr(value, "dtype"):
        return value.tolist()
    raise TypeError(f"a {cls.__module__}.{cls.__qualname__} has no form in JSON")
