"""The JSON documents: one frozen dataclass each. Both JSON (`codec`) and the schemas in
pykexec/schemas come from it."""
