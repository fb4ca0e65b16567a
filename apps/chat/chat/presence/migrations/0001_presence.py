"""Who is there."""

import sqlalchemy as sa
from alembic import op

revision = "presence_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "presence_copies",
        sa.Column("instance", sa.Text, primary_key=True),
        sa.Column("reported_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "presence_held",
        sa.Column("instance", sa.Text, primary_key=True),
        sa.Column("user_id", sa.Integer, primary_key=True),
    )
