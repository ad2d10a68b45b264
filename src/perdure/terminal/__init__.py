"""Commands that talk to a running server over its public HTTP API, and nothing else: they work against any
server, on this machine or another.
"""
