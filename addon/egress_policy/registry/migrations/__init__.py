"""The history of the schema, oldest first. Run by ``registry/upgrade.py``, never by hand."""
