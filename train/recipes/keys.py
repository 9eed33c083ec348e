"""The keys of a recipe: each once, and each known."""

from __future__ import annotations

import difflib
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any, get_args, get_type_hints

import yaml


class _UniqueKeyLoader(yaml.SafeLoader):
    """As PyYAML's loader, which takes the last of several equal keys without a word."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """The mapping of a node."""
        seen = set()
        for key_node, _ in node.value:
            if key_node.tag != "tag:yaml.org,2002:merge":
                key = self.construct_object(key_node, deep=True)
                if isinstance(key, Hashable) and key in seen:
                    line = key_node.start_mark.line + 1
                    raise yaml.constructor.ConstructorError(
                        problem=f"the key '{key}' is there twice (line {line})"
                    )
                seen.add(key)
        return super().construct_mapping(node, deep=deep)


def load_yaml(text: str) -> Any:
    """The content of a YAML document.

    Raises:
        yaml.YAMLError: The text is not YAML, or a mapping has a key twice.
    """
    return yaml.load(text, Loader=_UniqueKeyLoader)  # a safe loader


def check_keys(values: Mapping[Any, Any], config: type, *, path: str = "") -> None:
    """Check that settings are known to the dataclass that is built from them.

    Args:
        values: Settings by name; those of a dataclass within may be a mapping.
        config: Dataclass.
        path: Start of the names in messages, such as ``training.``.

    Raises:
        ValueError: A setting is unknown; the message has its path and the likely one.
    """
    _check(values, config, path, list(_paths(config, path)))


def _check(values: Mapping[Any, Any], config: type, path: str, known: list[str]) -> None:
    here = dict(_settings(config))
    for key, value in values.items():
        if key not in here:
            raise ValueError(f"there is no setting '{path}{key}'{_likely(str(key), path, known)}")
        inner = here[key]
        if inner is not None and isinstance(value, Mapping):
            _check(value, inner, f"{path}{key}.", known)


def _likely(key: str, path: str, known: list[str]) -> str:
    """The setting that was meant: of this name elsewhere, or of a similar name here."""
    elsewhere = [name for name in known if name.rpartition(".")[2] == key]
    similar = elsewhere or difflib.get_close_matches(f"{path}{key}", known, n=1)
    return f": did you mean {similar[0]}?" if similar else ""


def _paths(config: type, path: str) -> Iterator[str]:
    for name, inner in _settings(config):
        yield f"{path}{name}"
        if inner is not None:
            yield from _paths(inner, f"{path}{name}.")


def _settings(config: type) -> Iterator[tuple[str, type | None]]:
    """Names of the settings, and the dataclass that each holds, if it holds one."""
    hints = get_type_hints(config)
    for setting in fields(config):
        hint = hints[setting.name]
        inner = [kind for kind in (hint, *get_args(hint)) if is_dataclass(kind)]
        yield setting.name, inner[0] if inner and isinstance(inner[0], type) else None
