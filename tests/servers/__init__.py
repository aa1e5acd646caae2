"""Private instances of the servers that tests talk to, on free ports of loopback, data in a temporary folder."""
