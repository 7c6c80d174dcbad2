"""Values: parsed once from text, frozen, free of I/O. Standard library and pydantic only."""
