"""Scripts of users."""

import sqlalchemy as sa
from alembic import op

revision = "scripts_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "scripts",
        sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("direction", sa.Text, primary_key=True),
        sa.Column("language", sa.Text, nullable=False),
        sa.Column("digest", sa.Text, nullable=False),
        sa.Column("size", sa.Integer, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text),
    )
    op.create_index("scripts_by_digest", "scripts", ["digest"])
