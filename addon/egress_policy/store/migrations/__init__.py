"""The history of the schema, oldest first. Run by ``store/upgrade.py``, never by hand."""
