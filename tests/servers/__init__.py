"""Private servers for tests, on free loopback ports and with data in a temporary folder."""
