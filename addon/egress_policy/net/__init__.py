"""Questions to the network that precede a dial: names. The only package that imports dnspython."""
