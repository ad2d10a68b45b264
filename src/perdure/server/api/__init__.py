"""The API of the pages: `/api/...`, each endpoint declared with the types of what it takes and gives.

The OpenAPI document at `/api/openapi.json` is made from those declarations, and the types of the pages from it.
"""
