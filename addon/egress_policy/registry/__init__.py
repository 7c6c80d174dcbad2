"""The registry: what the faces configure, in a database. The only package that imports one."""
