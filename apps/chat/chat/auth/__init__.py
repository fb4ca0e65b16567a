"""Auth: who may come in. Asks the users service for the hash of a password, and issues tokens.

Its own table holds failed logins alone, by which it slows down whoever guesses.
"""
