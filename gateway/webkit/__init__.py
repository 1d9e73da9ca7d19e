"""The base templates and security rules that the gateway's and the hub's pages share.

What lives here: base templates, vendored assets with their hashes, security headers, problem details, events.
What it never imports: edge and hub; they pass in the content.
Read first: site.py.
"""
