"""The JSON documents, each a frozen dataclass, from which both the JSON (`codec`) and the schemas
in pykexec/schemas are generated."""
