"""Alembic's entry: the connection is handed in by Store.migrate, there is no alembic.ini."""

from alembic import context

from gateway.hub.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,
    transaction_per_migration=False,
)
context.run_migrations()
