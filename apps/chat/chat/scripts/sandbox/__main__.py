"""`python -m chat.scripts.sandbox` compiles the interpreters for all processes of this user, unless that is done."""

from chat.scripts.sandbox.interpreters import CACHE, prepare

prepare(CACHE)
