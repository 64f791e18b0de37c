"""A small OpenID provider: discovery, a page that asks who signs in, the code flow, signed id_tokens, its keys.

python oidc_provider.py PORT CLIENT_ID CLIENT_SECRET REDIRECT_URI
"""

import base64
import json
import secrets
import sys
import time
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from joserfc import jwt
from joserfc.jwk import RSAKey

KEY = RSAKey.generate_key(2048, {"kid": "one", "use": "sig", "alg": "RS256"}, private=True)
CLIENT, SECRET, REDIRECT = sys.argv[2:5]
ISSUER = f"http://localhost:{sys.argv[1]}"
codes = {}  # code -> what the browser asked with, and who signed in


class Provider(BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition("?")
        asked = dict(urllib.parse.parse_qsl(query))
        if path == "/.well-known/openid-configuration":
            self.say({"issuer": ISSUER, "authorization_endpoint": f"{ISSUER}/authorize",
                      "token_endpoint": f"{ISSUER}/token", "jwks_uri": f"{ISSUER}/jwks",
                      "response_types_supported": ["code"], "subject_types_supported": ["public"],
                      "id_token_signing_alg_values_supported": ["RS256"],
                      "code_challenge_methods_supported": ["S256"]})  # fmt: skip
        elif path == "/jwks":
            self.say({"keys": [KEY.as_dict(private=False)]})
        elif path == "/authorize" and (asked["client_id"], asked["redirect_uri"]) == (CLIENT, REDIRECT):
            form = '<form method="post"><input name="email" aria-label="E-mail"><label><input type="checkbox" '
            form += 'name="verified" checked>verified</label><button>Sign in</button></form>'
            self.say(f"<!doctype html><h1>Who are you?</h1>{form}")
        else:
            self.say({"error": "invalid_request"}, 400)

    def do_POST(self):
        path, _, query = self.path.partition("?")
        form = dict(urllib.parse.parse_qsl(self.rfile.read(int(self.headers["Content-Length"])).decode()))
        if path == "/authorize":
            asked = dict(urllib.parse.parse_qsl(query))
            code = secrets.token_hex(8)
            codes[code] = asked | {"email": form["email"], "verified": "verified" in form}
            self.send_response(303)
            back = urllib.parse.urlencode({"code": code, "state": asked["state"]})
            self.send_header("Location", f"{asked['redirect_uri']}?{back}")
            self.end_headers()
            return
        granted = codes.pop(form.get("code"), None)
        basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
        if path != "/token" or granted is None or self.headers["Authorization"] != f"Basic {basic}":
            return self.say({"error": "invalid_grant"}, 400)
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": CLIENT, "sub": granted["email"], "iat": now, "exp": now + 600,
                  "nonce": granted["nonce"], "email": granted["email"],
                  "email_verified": granted["verified"]}  # fmt: skip
        token = jwt.encode({"alg": "RS256", "kid": "one"}, claims, KEY)
        self.say({"access_token": secrets.token_hex(8), "token_type": "Bearer", "expires_in": 600, "id_token": token})

    def say(self, what, status=200):
        page = isinstance(what, str)
        body = (what if page else json.dumps(what)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/html" if page else "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == "__main__":
    ThreadingHTTPServer(("localhost", int(sys.argv[1])), Provider).serve_forever()
