"""Users: who they are. Keeps the hash of a password, and shows it to the auth service alone."""
