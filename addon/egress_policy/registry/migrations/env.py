"""How Alembic runs here: on the connection it is given, within the transaction of its owner."""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
