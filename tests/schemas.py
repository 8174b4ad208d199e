"""Makes the JSON Schemas of the documents from their types: `schema_of`.

A class's docstring is the title or description of its object, a string below a field that of the
property. A field with its default value is omitted, so it is neither required nor null.
"""

from __future__ import annotations

import ast
import inspect
import json
from typing import Any

from mashumaro.jsonschema import build_json_schema
from mashumaro.jsonschema.models import Context, JSONArraySchema, JSONSchema
from mashumaro.jsonschema.plugins import BasePlugin
from mashumaro.jsonschema.schema import Instance

from pykexec.documents.base import Choice, Length, Number, Text


class Rules(BasePlugin):
    """Numbers and strings with constraints, and descriptions."""

    def get_schema(
        self, instance: Instance, ctx: Context, schema: JSONSchema | None = None
    ) -> JSONSchema | None:
        for rule in instance.annotations:
            if isinstance(rule, Text):
                found = {"type": "string", "pattern": rule.pattern}
                return JSONSchema.from_dict(
                    found | ({"description": rule.description} if rule.description else {})
                )
            if isinstance(rule, Choice):
                return JSONSchema.from_dict({"enum": list(rule.values)})
            if isinstance(rule, Number):
                limits = {"minimum": rule.least, "maximum": rule.most}
                given = {name: limit for name, limit in limits.items() if limit is not None}
                return JSONSchema.from_dict({"type": "integer", **given})
            if isinstance(rule, Length) and isinstance(schema, JSONArraySchema):
                schema.minItems = rule.least
        return None


def schema_of(kind: Any) -> str:
    """The text of a golden file in pykexec/schemas."""
    built = build_json_schema(kind, all_refs=True, plugins=[Rules()]).to_dict()
    classes = {item.__name__: item for item in reachable(kind)}
    definitions = {
        name: finished(item, classes[name]) for name, item in sorted(built["$defs"].items())
    }
    top = definitions.pop(kind.__name__)
    name, _, number = kind.schema.removeprefix("pykexec.").partition("/")
    whole = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:pykexec:{name}:{number}",
        "title": top.pop("description"),
        "type": top.pop("type"),
        "properties": {"schema": {"const": kind.schema}, **top.pop("properties")},
        "required": ["schema", *top.pop("required")],
        **top,
    }
    return json.dumps(whole | ({"$defs": definitions} if definitions else {}), indent=1) + "\n"


def reachable(kind: Any) -> set[Any]:
    """The classes of a document and its parts."""
    found, waiting = set(), [kind]
    while waiting:
        item = waiting.pop()
        if hasattr(item, "__dataclass_fields__") and isinstance(item, type):
            if item not in found:
                found.add(item)
                waiting += inspect.get_annotations(item, eval_str=True).values()
        else:
            waiting += getattr(item, "__args__", ())
    return found


def finished(schema: dict[str, Any], kind: Any) -> dict[str, Any]:
    """An object's schema, with the descriptions from the source."""
    schema = {name: item for name, item in schema.items() if name != "title"}
    properties = schema["properties"]
    for name, text in field_texts(kind).items():
        if name in properties:
            properties[name] = {"description": text} | properties[name]
    for name, found in properties.items():
        if "default" in found:
            properties[name] = without_default(found)
        properties[name].pop("propertyNames", None)
    if "more" in properties:
        more = properties.pop("more")
        schema["additionalProperties"] = more.get("additionalProperties", True)
        schema["required"] = [name for name in schema["required"] if name != "more"]
    return {"description": " ".join(inspect.cleandoc(kind.__doc__).split()), **schema}


def without_default(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema of a field that is omitted at its default, without that default."""
    default = schema.pop("default")
    alone = {"type": "null"} if default is None else {"const": default}
    others = [item for item in schema.pop("anyOf", ()) if item != alone]
    return schema | (others[0] if len(others) == 1 else {"anyOf": others} if others else {})


def field_texts(kind: Any) -> dict[str, str]:
    """The strings below the fields of a class, including inherited ones."""
    texts: dict[str, str] = {}
    for item in reversed(kind.__mro__[:-1]):
        (node,) = ast.parse(inspect.cleandoc(inspect.getsource(item))).body
        assert isinstance(node, ast.ClassDef)
        for field, below in zip(node.body, node.body[1:], strict=False):
            match field, below:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    texts[name] = " ".join(text.split())
    return texts
