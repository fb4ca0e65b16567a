"""Settings of auto-replies."""

import sqlalchemy as sa
from alembic import op

revision = "autoreply_0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "autoreplies",
        sa.Column("user_id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("message_body", sa.Text, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
    )
