"""One function, one statement of `sql/`: connection first, a frozen dataclass or None out."""

import importlib
import inspect
import pkgutil
from dataclasses import is_dataclass
from functools import cache
from typing import Any, get_args, get_type_hints


@cache
def records() -> dict[str, type]:
    """The record that the rows of each statement become, by the statement's name.

    A query function returns its record alone, in a list, or beside None; its name is the statement's. So the annotations of
    the query functions say it all.
    """
    found: dict[str, type] = {}
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        for name, function in vars(importlib.import_module(module.name)).items():
            if inspect.iscoroutinefunction(function) and function.__module__ == module.name:
                for kind in filter(_is_record, _kinds(get_type_hints(function)["return"])):
                    found[name] = kind
    return found


def _kinds(annotation: Any) -> list[Any]:
    return [kind for inner in get_args(annotation) for kind in _kinds(inner)] or [annotation]


def _is_record(kind: Any) -> bool:
    return is_dataclass(kind) or hasattr(kind, "_fields")
