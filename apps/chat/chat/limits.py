"""Every bound of the application, with its unit and its reason."""

MESSAGE_BYTES_MAX = 4096
"""Of one message's text in UTF-8: a page of it. More is a document, and belongs elsewhere."""
RECIPIENTS_MAX = 100
"""Of one message: each is a row and a push."""
NAME_CHARACTERS_MAX = 64
"""Of a user name and of each part of a person's name."""
EMAIL_CHARACTERS_MAX = 254
"""RFC 5321 §4.5.3.1.3, less the angle brackets."""
PASSWORD_CHARACTERS_MIN = 8
PASSWORD_CHARACTERS_MAX = 128
"""Looked at before anything is hashed: a hash of a megabyte would be an attack."""
TITLE_CHARACTERS_MAX = 100
PAGE_ENTRIES_MAX = 200
"""Of any list that is read page by page."""
BODY_BYTES_MAX = 1 << 20
"""Of one HTTP request."""
FIELDS_TOLD_MAX = 20
"""Of those that are wrong in one request: its body has room for a hundred thousand."""
TOKEN_BYTES_MAX = 8192
"""Of a JWT: ours take 300."""

TOKEN_SECONDS = 12 * 3600
"""A working day without logging in again."""
HASHES_AT_ONCE = 2
"""Argon2id takes 19 MiB and a core each."""
HASHES_WAITING_MAX = 64
"""Logins in the queue for a hash: about four seconds of them. More are told to come again."""
FAILURES_PER_ACCOUNT_MAX = 5
FAILURES_PER_ACCOUNT_SECONDS = 15 * 60
FAILURES_PER_ADDRESS_MAX = 20
FAILURES_PER_ADDRESS_SECONDS = 60
"""Failed logins: an office behind one address mistypes more often than one person (FAULTS §3f)."""

COMMAND_SECONDS_MAX = 10.0
"""Until a command without an answer counts as unknown: longer than a fail-over takes."""
CALL_SECONDS_MAX = 10.0
"""For one service to answer another."""
CALLS_AT_ONCE = 32
"""Connections from one service to another; further calls wait for one."""
USERS_LISTED_MAX = 10_000
"""In one answer of the list that has no pages: half a megabyte."""
NOTIFICATIONS_KEPT_MAX = 1000
"""Of each user: years of logins. The oldest goes."""
CHAIN_BATCH_MAX = 100
"""Events handled together at one hop of their chain: one transaction, one round trip."""
RETRY_SECONDS_MIN = 0.05
RETRY_SECONDS_MAX = 2.0
"""Between attempts at a server that is away; doubled from one to the next."""
SURPRISES_MAX = 5
"""Attempts at what fails in a way that nobody foresaw, until it counts as refused."""
START_SECONDS_MAX = 30.0
"""For the servers that a process needs at its start to be there: they may start at the same time."""

PUBLISH_SECONDS_MAX = 10.0
"""For a broker to acknowledge: longer than it takes to start again or to fail over on a good day."""
TOPIC_PARTITIONS = 6
"""Of each topic: so many instances of a service can share its events, evenly if they are two or three."""
FETCH_BYTES_MAX = 1 << 20
"""Fetched ahead from each partition: some hundred of the largest events."""
REASON_CHARACTERS_MAX = 500
"""Of why a dead letter is one, and of the name of a field that is wrong."""
DEAD_LETTERS_KEPT_SECONDS = 28 * 86400
"""For somebody to look at them after a holiday."""
PUSHES_KEPT_SECONDS = 600
"""At the broker: a socket that is behind by more asks for what it missed."""

LOGINS_AT_ONCE = 20
"""Handled by an instance, or on their way to it."""
LOGINS_WAITING_MAX = 100_000
"""For an instance that is down: 40 MB, a day of more than one login a second. Then logins can't be published."""
LOGINS_KEPT_SECONDS = 86400
"""After so long without its instance a queue is gone: an instance of that name won't come back."""

CONFIRM_SECONDS = 10.0
"""Between two confirmations of all sockets that an instance holds."""
HELD_SECONDS = 30.0
"""After so long without a confirmation an instance holds none: two may get lost."""
JOINS_SECONDS = 0.1
"""Who joins or leaves a copy within it is noted by one command."""
PRESENCE_BATCH = 500
"""Users in one round trip to Redis."""
SERVER_SECONDS_MAX = 2.0
"""For Redis or the object store to answer: a hundred times what they need."""

SCRIPTS_AT_ONCE = 8
"""S3. Others wait for their turn, or are told to come again."""
SCRIPT_ATTEMPTS_MAX = 3
"""At a run that crashes: more often than that, it is the script's doing."""
SOURCES_BYTES_MAX = 8 << 20
"""Of the sources of scripts that are kept in memory: hundreds, of their usual size."""
JOLIE_SECONDS_MAX = 15
"""S3. Of the clock on the wall, and of a core."""
JOLIE_BYTES_MAX = 6 << 30
"""S3. Of address space, most of which the Java virtual machine never touches."""
JOLIE_OUTPUT_BYTES_MAX = 256 * 1024
"""Of each file that a program writes, its result among them."""
JOLIE_THREADS_MAX = 512
"""Of the user it runs as: a virtual machine has 30, and eight may run."""

FRAME_BYTES_MAX = 64 * 1024
"""Of one frame on a socket: a script and its frame's JSON fit, hardly anything else comes near."""
SOCKETS_MAX = 2000
"""Of one web instance: 60 KiB each. More are told to come again, and find another instance."""
SOCKET_FRAMES_MAX = 256
"""Waiting to be sent on one socket: whoever reads so slowly is told to come again and resume."""
SLOW_SECONDS_MAX = 10.0
"""For a client to read a page of its inbox, or the end of its socket."""
UNANSWERED_MAX = 64
"""Requests on one socket; less than CHAIN_BATCH_MAX, so that they can travel together."""
SOCKET_FRAMES_PER_SECOND = 50
SOCKET_FRAMES_BURST = 100
"""From one client: ten times what the fastest typist sends. A page that comes back with a full outbox fits."""
INBOX_PAGE_ENTRIES = 100
"""Fetched at once for a socket that is behind: they fit in its queue, with room for answers."""
FETCHES_AT_ONCE = 16
"""Of one web instance, so that a thousand sockets that come back at once don't storm the router."""
PUBLISHES_AT_ONCE = 1
"""Of one web instance: what comes meanwhile goes together."""
PEOPLE_SECONDS = 5.0
"""The list of users is as old as that at most."""
KNOWN_USERS_MAX = 100_000
"""Numbers of users who were there when last asked for."""
KNOWN_USERS_SECONDS = 600.0
"""After that they are asked for anew: they may have gone. What is sent to who has just gone, nobody reads."""

DRAIN_SECONDS = 3
"""For requests under way when a process is told to end."""
GARBAGE_OBJECTS = 10_000
"""Made until the young ones are looked through for cycles: most of a request's are gone by then, and don't grow old."""
KEEP_ALIVE_SECONDS = 75
"""Until an idle connection closes: longer than what stands in front keeps its own."""
