"""GraphQL: `POST /v0/gql`, what dashboards and the test helpers of SDKs read and change the server by.

Nothing of it is loaded before the first request for it.
"""
