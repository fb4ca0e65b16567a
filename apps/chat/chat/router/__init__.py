"""The router: the end of every message's way. It numbers it in its conversation and in inboxes, and keeps it."""
