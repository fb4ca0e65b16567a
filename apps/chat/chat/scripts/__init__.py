"""Scripts: a user's own program looks at each message that they send, or at each that they are to get.

`sandbox` runs programs and knows nothing of messages; `running` puts what they may be written in behind one door;
`chain` is what happens to messages; `source_cache` finds sources.
"""
