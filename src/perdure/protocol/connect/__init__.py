"""The language of Connect: what a worker and a gateway say to each other over one WebSocket.

Every frame is one `ConnectMessage`: a kind, and a payload whose form the kind decides (`messages.PAYLOADS`).
"""

from __future__ import annotations
