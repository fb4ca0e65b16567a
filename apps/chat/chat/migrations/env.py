"""How alembic runs a service's migrations: on the connection it is given, with that service's own table of versions."""

from alembic import context

config = context.config
context.configure(
    connection=config.attributes["connection"],
    version_table=config.attributes["version_table"],
    transactional_ddl=True,
)
context.run_migrations()
