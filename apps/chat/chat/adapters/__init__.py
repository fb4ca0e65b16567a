"""Every edge to a real server, and its in-process twin.

A module holds a port, and what implements it in process: `commands` (or ordered by a front door), `database`, `bus`,
`logins`, `presence`, `sources`. What implements it by a server is in a module of its own: `bus_kafka`,
`logins_rabbitmq`, `presence_redis`, `sources_s3`; by commands, `presence_ordered`. Services know the ports alone.
"""
