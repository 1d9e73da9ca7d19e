"""The look and the guard that both web faces share.

What lives here: base templates, vendored assets with their hashes, security headers, problem details, events.
What it never imports: edge and hub; it is given what it shows.
Read first: site.py.
"""
