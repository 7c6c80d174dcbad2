"""One migration a module. None is ever edited: there are registries that have been through it."""
