"""Connections apart from mitmproxy's: for tests of a proxy, and all that asks through one."""
