"""Looks up the addresses that a pinned hop may dial. The only package that imports dnspython."""
