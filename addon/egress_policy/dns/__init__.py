"""Names to addresses: what a pin needs, before a dial. The only package that imports dnspython."""
