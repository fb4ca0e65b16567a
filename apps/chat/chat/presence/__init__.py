"""Who is there, replicated: a service without endpoints, whose only command is sent by every copy about itself."""
