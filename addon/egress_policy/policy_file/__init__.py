"""The policy file: read, checked and watched."""
