"""Wire formats as pure bytes: incremental, no sockets, no event loop."""
