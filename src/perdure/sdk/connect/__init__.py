"""Connect: an app that dials the server and takes its calls over a WebSocket, instead of serving them over HTTP.

`worker` is where to begin: it keeps a connection, runs calls and drains. `App.connect` loads all this when it is
called.
"""
