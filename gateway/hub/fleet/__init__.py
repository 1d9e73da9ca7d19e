"""What the hub exchanges with its gateways.

What lives here: service.py (one connection, one thread), gateways.py (births, wills, what is known of each), rosters.py
(from the directory to a signed publication), publishing.py (when a site's roster goes out), presence.py (who is in, for
its kiosks), watch.py (chain.py and true_time.py, which follow the ingest), enrolment.py, authority.py and
broker_rights.py (who may speak for a site: registry, certificates, access list).
What it never imports: ingest's workers, sync, web.
Read first: service.py.
"""
