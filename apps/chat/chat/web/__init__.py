"""The web service: the page, and the sockets by which it sends and gets messages."""
