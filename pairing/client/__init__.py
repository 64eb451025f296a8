"""The client of a gateway: what a device or a program needs to connect, and nothing of the service.

Read in this order: `errors`, `address`, `credentials`, `store` (identity and tokens on disk), `handshake` (what is said on
connecting, without a socket), `session` (the socket; `connect` is the way in). Nothing is imported here, so that a
command line starts fast.
"""
