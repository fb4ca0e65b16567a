"""Notifications: what users are told of, such as a login. Kept, numbered for each user, and pushed to their sockets."""
