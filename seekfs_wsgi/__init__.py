"""The layer that speaks HTTP: requests in, streamed bodies and problem documents out.

It checks what is asked, calls the data plane, and frames what comes back. It knows no store, keeps
no page and makes no policy.

| module | does |
|---|---|
| ``app``           | the WSGI application: dispatch, errors to answers, one latency a request |
| ``exchange``      | a request as an endpoint sees it, and what it answers |
| ``query``         | the parameters of a request |
| ``ranges``        | ``Range`` and the conditions, as RFC 9110 has them |
| ``items``         | the JSON body of a batch |
| ``bodies``        | reading a request's body within its limit |
| ``blob``          | ``/blob`` |
| ``readv``         | ``/readv``, plain and framed |
| ``frames``        | the framed answer |
| ``pieces``        | joining small views, passing large ones on |
| ``sending``       | the way of a body to the client: without a copy where the server allows it |
| ``explaining``    | ``?explain=1``: what a read did, in place of its bytes |
| ``diagnostics``   | health, readiness and the ``test_*`` endpoints |
| ``metrics``       | ``/metrics`` |
| ``problems``      | problem documents (RFC 9457) |
| ``plane_metrics`` | the data plane's statistics as metric families |
| ``daemon``        | the process under gunicorn: its settings, its start, its end |
| ``worker``        | gunicorn's threaded worker, ended and reported as this daemon needs it |
| ``arrival``       | whether a request has come in whole |
| ``parsing``       | a request as gunicorn parses it, and held to HTTP where gunicorn is more lenient |
| ``connections``   | clients that cannot hold that worker up |
| ``serve``         | the command line of the daemon |
"""
