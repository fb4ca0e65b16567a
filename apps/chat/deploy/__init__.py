"""Starts the servers of the classic deployment on this machine, for `make chat-classic`, the tests and the chaos test.

They are the real ones, from ordinary packages (`.ci/ensure` installs them), with their data kept as in production: a
write that was acknowledged survives the death of its server. They listen on loopback only and know no passwords, or
well-known ones: whoever is on this machine may come in. Not for production.
"""
