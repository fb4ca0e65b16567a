"""Auto-reply: a text that answers in a user's place while it is switched on. No automatic answer is ever answered."""
