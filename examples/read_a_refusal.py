"""A client that tells a refusal of the policy from a 503 of the origin, and says why.

    python examples/read_a_refusal.py http://127.0.0.1:8080 https://www.example.com/

An https request may be refused as early as at CONNECT, where clients see headers but no body.
"""

import http.client
import sys
from urllib.parse import urlsplit


def get(proxy: str, url: str) -> str:
    """One GET through the proxy. Returns the result as a line."""
    hop, target = urlsplit(proxy).netloc, urlsplit(url)
    connection: http.client.HTTPConnection
    if target.scheme == "http":
        connection, asked = http.client.HTTPConnection(hop, timeout=30), url
    else:
        connection = http.client.HTTPSConnection(hop, timeout=30)
        connection.set_tunnel(target.netloc)
        asked = target._replace(scheme="", netloc="").geturl() or "/"
    try:
        connection.request("GET", asked)
        answer = connection.getresponse()
        outcome, headers = f"status {answer.status}", answer.headers
    except OSError as error:
        headers_of_connect = connection.get_proxy_response_headers()
        if headers_of_connect is None:
            raise
        outcome, headers = str(error), headers_of_connect
    finally:
        connection.close()
    if code := headers.get("x-egress-error"):
        return f"refused by the egress policy: {code}, {headers.get('proxy-status')}"
    return outcome


if __name__ == "__main__":
    print(get(*sys.argv[1:]))
