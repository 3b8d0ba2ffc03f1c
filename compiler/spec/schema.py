"""The spec language as a JSON Schema, from the same declarations that the reader follows.

Editors complete, explain and check specs with it. What only the whole file can tell (names, shapes)
is left to `trine check`.
"""

from __future__ import annotations

import copy

from .. import layers as _layers  # noqa: F401 (registers the layers and losses)
from ..initialisers import INITIALISERS
from .kinds import Param, Schema, arguments_schema, params_of, section_params
from .registry import LAYERS, LOSSES, METRICS, REGISTRIES, Entry, Registry
from .sections import FIELD, Sections
from .signatures import DTYPES
from .steps import SIBLINGS, USE, arity

NAME = r"^[^\W\d]\w*$"


def schema() -> Schema:
    """The JSON Schema (draft 7) of a spec file."""
    sections = arguments_schema(section_params(Sections), Sections.__doc__, extras=True)
    sections["properties"]["params"] = _ref("params")
    return _with_uses(
        {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "title": "A trine spec",
            **sections,
            "definitions": _definitions(),
        }
    )


def _definitions() -> dict[str, Schema]:
    registries = [*(r for r in REGISTRIES if r not in (LAYERS, LOSSES)), INITIALISERS]
    return {
        "expression": _expression(),
        "params": _params(),
        "inputs": _inputs(),
        "fields": _fields(),
        "options": {"type": "object", "description": "Arguments of the data source."},
        "blocks": _blocks(),
        "steps": {"type": "array", "minItems": 1, "items": _ref("step"), "description": "Steps, in order."},
        "step": _step(),
        "names": _names(),
        "loss": {"anyOf": [_ref("one loss"), {"type": "array", "minItems": 1, "items": _ref("one loss")}]},
        "one loss": _loss(),
        **{registry.noun: _call(registry) for registry in registries},
    }


def _ref(name: str) -> Schema:
    return {"$ref": f"#/definitions/{name}"}


def _expression() -> Schema:
    return {
        "type": "string",
        "pattern": r"^\$([^\s\d$().,+*/%-][^\s$(),+*/%]*|\(.*\))$",
        "description": "`$name`, or `$(2 * width)`: arithmetic over params, block params, dims and sizes of the data.",
    }


def _params() -> Schema:
    scalar = {"type": ["string", "number", "boolean"]}
    values = {"anyOf": [scalar, {"type": "array", "items": scalar}]}
    return {
        "description": "Named values, for use as `$name` anywhere below, and for `--set params.name=…`.",
        "type": ["object", "null"],
        "propertyNames": {"pattern": NAME},
        "additionalProperties": values,
    }


def _inputs() -> Schema:
    dtype = "|".join(DTYPES)
    return {
        "description": "Names with signatures such as `float[1, 28, 28]`; the batch axis is implied.",
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": NAME},
        "additionalProperties": {"type": "string", "pattern": rf"^\s*({dtype})\s*(\[.*\])?\s*$"},
    }


def _fields() -> Schema:
    return {
        "description": "What the model and the loss read, by name.",
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"pattern": NAME},
        "additionalProperties": _field(),
    }


def _field() -> Schema:
    """A field: an encoding, named by `encode`, with its arguments beside it."""
    return FIELD.schema()


def _names() -> Schema:
    """The names of inputs: one, or a list."""
    return {"anyOf": [{"type": "string"}, {"type": "array", "minItems": 1, "items": {"type": "string"}}]}


def _blocks() -> Schema:
    types = {"enum": ["int", "float", "bool", "text", "any"]}
    default = {"type": ["string", "number", "boolean"]}
    block = {
        "type": "object",
        "properties": {
            "params": {
                "description": "Types (`filters: int`) or defaults (`stride: 1`), by name.",
                "type": ["object", "null"],
                "additionalProperties": {"anyOf": [types, default]},
            },
            "inputs": {**_names(), "description": "The names of the block's inputs, where it has several."},
            "layers": {**_ref("steps")},
        },
        "required": ["layers"],
        "additionalProperties": False,
    }
    return {
        "description": "Reusable lists of steps with typed parameters.",
        "type": ["object", "null"],
        "properties": {USE: _use()},
        "propertyNames": {"not": {"enum": list(LAYERS)}},
        "additionalProperties": block,
    }


def _use() -> Schema:
    path = {"type": "string", "pattern": r"\.ya?ml$"}
    return {"description": "Files to bring this in from.", "anyOf": [path, {"type": "array", "items": path}]}


def _step() -> Schema:
    """A layer's name; or an object with one layer, its arguments, and the keys that may stand beside it."""
    known = {name: _arguments(entry) for name, entry in LAYERS.items()}
    beside: dict[str, Schema] = {
        "from": {**_names(), "description": "The step's inputs by name; by default the step before."},
        "as": {"type": "string", "pattern": NAME, "description": "The step's own name."},
        "repeat": {
            "anyOf": [{"type": "integer", "minimum": 0, "maximum": 1000}, _ref("expression")],
            "description": "How many of it in a row.",
        },
        "share": {"type": "string", "description": "The step whose weights this one uses."},
    }
    plain = [name for name, entry in LAYERS.items() if not _required(entry)]
    return {
        "description": "A layer or block with its arguments; beside it may stand `from`, `as`, `repeat` and `share`.",
        "if": {"type": "object"},
        "then": {"properties": {**beside, **known}, "anyOf": [_one_key_beside(keys) for keys in _subsets(SIBLINGS)]},
        "else": {"type": "string", "anyOf": [{"enum": plain}, {"not": {"enum": list(known)}}]},
    }


def _one_key_beside(siblings: tuple[str, ...]) -> Schema:
    """Just these of the keys that may stand beside a layer, and one more: the name of a layer or block."""
    count = len(siblings) + 1
    option: Schema = {"required": list(siblings), "minProperties": count, "maxProperties": count}
    others = [{"required": [name]} for name in SIBLINGS if name not in siblings]
    return {**option, "not": {"anyOf": others}} if others else option


def _subsets(names: tuple[str, ...]) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = [()]
    for name in names:
        found += [(*each, name) for each in found]
    return found


def _loss() -> Schema:
    """A loss: its name with what it reads, or with arguments and `from` beside it."""
    weight = {"anyOf": [{"type": "number", "minimum": 0}, _ref("expression")], "description": "How much it counts."}
    sample_weight = {"type": "string", "description": "The field that says how much each sample counts."}
    beside = {"weight": weight, "sample_weight": sample_weight}
    forms: list[Schema] = []
    for name, entry in LOSSES.items():
        low, high = arity(entry)
        read = {"type": "array", "minItems": low, "maxItems": high, "items": {"type": "string"}}
        compared = {"properties": {name: {**read, "description": entry.summary}, **beside}, "required": [name]}
        forms.append({"type": "object", **compared, "additionalProperties": False})
        properties = {name: _arguments(entry), "from": read, **beside}
        forms.append(
            {"type": "object", "properties": properties, "required": [name, "from"], "additionalProperties": False}
        )
    return {"description": "A loss, as a step: `{cross_entropy: [logits, label]}`.", "anyOf": forms}


def _call(registry: Registry) -> Schema:
    """A name from a registry, or one key with its arguments."""
    plain = [name for name, entry in registry.items() if not _required(entry)]
    return {
        "description": f"{registry.article.capitalize()} {registry.noun}: its name, or `{{name: arguments}}`.",
        "anyOf": [
            {"enum": plain},
            *_short(registry),
            {
                "type": "object",
                "properties": {name: _arguments(entry) for name, entry in registry.items()},
                "additionalProperties": False,
                "minProperties": 1,
                "maxProperties": 1,
            },
        ],
    }


def _short(registry: Registry) -> list[Schema]:
    """`hit_rate@10`, short for `{hit_rate: 10}`."""
    names = [name for name, entry in registry.items() if params_of(entry)]
    return [{"type": "string", "pattern": f"^({'|'.join(names)})@.+$"}] if registry is METRICS else []


def _arguments(entry: Entry) -> Schema:
    """What stands after the name of a layer, loss, …: its arguments, or the first of them alone."""
    params = params_of(entry)
    options: list[Schema] = [arguments_schema(params, None)]
    if not _required(entry):
        options.append({"type": "null"})
    if params:
        options.append(_value(params[0]))
    if _takes_several(entry):
        options.append({"type": "array", "minItems": 1, "items": {"type": "string"}})
    return {"description": entry.summary, "anyOf": options}


def _value(param: Param) -> Schema:
    """One argument alone."""
    return {"anyOf": [param.kind.schema(), _ref("expression")]}


def _takes_several(entry: Entry) -> bool:
    _, high = arity(entry)
    return high is None or high > 1


def _required(entry: Entry) -> list[str]:
    return [param.name for param in params_of(entry) if param.required]


def _with_uses(root: Schema) -> Schema:
    """Sections that may be brought in from another file: `use` stands for what they require."""
    root = copy.deepcopy(root)
    for name, section in root["properties"].items():
        for option in _objects(section):
            option["properties"][USE] = _use()
            if required := option.pop("required", None):
                option["anyOf"] = [{"required": [USE]}, {"required": required}]
        if name == "params":
            root["definitions"]["params"].setdefault("properties", {})[USE] = _use()
    return root


def _objects(section: Schema) -> list[Schema]:
    """The mappings with fixed keys among what a section may be."""
    if section.get("type") == "object" and "properties" in section:
        return [section]
    return [found for option in section.get("anyOf", []) for found in _objects(option)]
