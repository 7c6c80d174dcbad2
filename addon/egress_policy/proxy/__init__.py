"""The face that mitmproxy sees: the only package that imports mitmproxy."""
