"""A chat made of microservices: one codebase, two deployments.

In the classic one each service is a process, and Kafka, RabbitMQ, Redis and PostgreSQL stand between and behind them.
In the replicated one all services are one process that runs in identical copies, behind a front door that gives every
copy the same commands in the same order. `deployments.py` tells them apart; nothing else does.

    events, commands     what travels: a message on its way, a decided change
    service              what a service is, and how it becomes an HTTP application
    adapters             every edge to a real server, and its in-process twin
    users auth notifications web autoreply scripts router
                         the services: `api` (the edge, which decides), `apply` (what a command does), `tables`

A request is decided at the edge: identifiers, times, salts and the results of scripts. What follows from the decision
is a command, and applying it reads no clock and rolls no dice.
"""
