"""`ccm keys`: make, list and revoke the API keys of a server."""
