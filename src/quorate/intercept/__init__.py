"""The front door: listens for clients, judges what they send, and hands it to the replica.

    server      listening addresses, the bounds and the sweep; knows HTTP, and nothing of replicas
    connection  one client's bytes and deadlines
    policy      method and path -> ordered, read, stale or pass
    front       a request -> `Replica.submit` or `Replica.read` -> the answer

Refuses what the grammar does not allow, what comes too slowly, and what is too much, always with a framed answer that
closes the connection, and always before anything is proposed. It never retries, and never answers for the service.
"""
